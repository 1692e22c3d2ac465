"""Gender, age and emotion, read from a voice and from a face by small networks of our own, and compared. [ours]

Both networks answer with the same eleven numbers and learned from the truth of the synthetic world: its three ages, its
four emotions, two strengths of each but neutral.

Letters: F frames, s side, b batch, l mel frames.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from uniavgen.evaluation.readers.blocks import Residual
from uniavgen.evaluation.readers.hearing import VOICE_MEL, Tone, mel
from uniavgen.evaluation.readers.locator import FacePath, to_tensor
from uniavgen.evaluation.readers.rubric import Gap, emotion_grade, gap, timbre_grade
from uniavgen.evaluation.readers.storing import load, shipped

AGES = ("child", "grown", "old")
CHILD_BELOW, OLD_FROM = 16.0, 62.5
"""Years."""
AGE_PLACES = np.array([0.0, 1.0, 1.3])
"""Where the ages stand for telling how far two are apart. [ours]"""
EMOTIONS = ("neutral", "happy", "angry", "sad")
STRONG_FROM = 0.8
"""Strength of a mood from which it is strong. [ours]"""
KINDS = (("neutral", False), *((name, strong) for name in EMOTIONS[1:] for strong in (False, True)))
"""Emotion, and whether it is strong."""
ANSWERS = 1 + len(AGES) + len(KINDS)
FACE_PX, FACE_SHARE = 80, 1.5
"""The square around a face: its side in pixels, and in sizes of the face. [ours]"""
FACES_PER_S = 8.0
"""How often a face is looked at. [ours]"""
MOMENT_S = 0.4
"""Deviation of the smoothing over time of what a face shows. [ours]"""
MAY = 0.1
"""Probability over the likeliest answer's from which a person may be so. [ours, measured: docs/evaluation.md]"""
HEARD = 0.03
"""Power over the loudest moment's from which something sounds. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is thought of one person, as probabilities."""

    male: float
    ages: Float[np.ndarray, " ages"]
    kinds: Float[np.ndarray, "*frames kinds"]
    """Of a voice once, of a face for every frame looked at."""

    @property
    def emotions(self) -> Float[np.ndarray, "*frames emotions"]:
        """Of EMOTIONS, whatever their strength."""
        groups = [[i for i, (kind, _) in enumerate(KINDS) if kind == name] for name in EMOTIONS]
        return np.stack([self.kinds[..., group].sum(axis=-1) for group in groups], axis=-1)

    def say(self) -> str:
        """In words, such as 'female, child, sad'."""
        emotions = self.emotions.reshape(-1, len(EMOTIONS)).mean(axis=0)
        gender = "male" if self.male > 0.5 else "female"
        return f"{gender}, {AGES[int(self.ages.argmax())]}, {EMOTIONS[int(emotions.argmax())]}"


def to_traits(answers: Float[Tensor, "*frames answers"]) -> Traits:
    """Probabilities out of a network's numbers; gender and age from their mean over frames."""
    gender, ages, kinds = answers.split([1, len(AGES), len(KINDS)], dim=-1)
    flat_gender, flat_ages = gender.reshape(-1, 1).mean(dim=0), ages.reshape(-1, len(AGES)).mean(dim=0)
    return Traits(
        male=float(flat_gender.sigmoid()), ages=flat_ages.softmax(-1).numpy(), kinds=kinds.softmax(-1).numpy()
    )


class FaceReader(nn.Module):
    """One square around a face to ANSWERS numbers."""

    WIDTH = 128
    """Of what is known of a face before the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            Residual(32),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            Residual(64),
            Residual(64),
            nn.Conv2d(64, 96, 3, stride=2, padding=1),
            Residual(96),
            Residual(96),
            nn.BatchNorm2d(96),
            nn.ReLU(),
            nn.Conv2d(96, 32, 1),
        )
        self.known = nn.Sequential(nn.Linear(32 * (FACE_PX // 16) ** 2, self.WIDTH), nn.ReLU())
        self.answer = nn.Linear(self.WIDTH, ANSWERS)

    def know(self, squares: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b known"]:
        """What every answer is made of; values in [-1, 1]."""
        return self.known(rearrange(self.features(squares), "b c h w -> b (c h w)"))

    def forward(self, squares: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b answers"]:
        """Log-odds of male, logits of AGES, logits of KINDS."""
        return self.answer(self.know(squares))

    @torch.no_grad()
    def read(self, frames: UInt8[np.ndarray, "F H W 3"], fps: float, where: FacePath) -> Traits:
        """Of a clip; emotion for every second frame or so, smoothed over about a second."""
        picks = np.arange(0, len(frames), max(round(fps / FACES_PER_S), 1))
        squares = to_tensor(where.at(picks).squares(frames[picks], FACE_PX, FACE_SHARE))
        answers = torch.cat([self(part) for part in squares.split(64)])
        times = torch.from_numpy(picks / fps).float()
        weights = torch.exp(-0.5 * ((times[:, None] - times) / MOMENT_S) ** 2)
        smooth = weights @ answers / weights.sum(dim=1, keepdim=True)
        return to_traits(smooth)

    @classmethod
    def load(cls, path: Path | None = None) -> "FaceReader":
        """The reader stored at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load(cls(), path or shipped("face_reader"), "face reader", "train-reader face")


class VoiceReader(nn.Module):
    """A voice to ANSWERS numbers, from mean and spread of its spectrum over what sounds, and its pitch.

    How loud it is plays no part: that belongs to the recording.
    """

    NUMBERS = 3 * VOICE_MEL.num_mel + 2

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Sequential(
            nn.BatchNorm1d(self.NUMBERS, affine=False),
            nn.Linear(self.NUMBERS, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, ANSWERS),
        )

    def forward(self, numbers: Float[Tensor, "b numbers"]) -> Float[Tensor, "b answers"]:
        """Log-odds of male, logits of AGES, logits of KINDS, out of what `heard` gave."""
        return self.answer(numbers)

    @torch.no_grad()
    def read(self, waveform: Float32[np.ndarray, " samples"]) -> Traits:
        """Of 16 kHz sound."""
        spectrum, tone = torch.from_numpy(mel(waveform, VOICE_MEL)), torch.from_numpy(Tone.of(waveform).values())
        return to_traits(self(heard(spectrum[None], tone[None]))[0])

    @classmethod
    def load(cls, path: Path | None = None) -> "VoiceReader":
        """The reader stored at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load(cls(), path or shipped("voice_reader"), "voice reader", "train-reader voice")


def heard(log_mel: Float[Tensor, "b l mel"], tone: Float[Tensor, "b 2"]) -> Float[Tensor, "b numbers"]:
    """What is heard of voices, out of raw log-mel and `Tone.values`, the same at any level.

    Mean and deviation over the moments that sound, and the spectrum of the mean power, all about the mean level.
    """
    power = log_mel.exp()
    moments = power.sum(dim=2, keepdim=True)
    sounds = (moments > HEARD * moments.amax(dim=1, keepdim=True)).to(log_mel)
    weights = sounds / sounds.sum(dim=1, keepdim=True)
    mean = (log_mel * weights).sum(dim=1)
    spread = ((log_mel - mean[:, None]).square() * weights).sum(dim=1).add(1e-5).sqrt()
    loud = (power * weights).sum(dim=1).clamp(min=1e-12).log()
    level = mean.mean(dim=1, keepdim=True)
    return torch.cat([mean - level, spread, loud - level, tone], dim=1)


def doubt(probabilities: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n k"]:
    """0 from MAY times the likeliest on, for what may be so, to 1 for what is ruled out; doubt rules out little."""
    return np.clip(1 - probabilities / (MAY * probabilities.max(axis=-1, keepdims=True)), 0, 1)


def timbre_consistency(voice: Traits, face: Traits) -> float:
    """One of the five grades: the best for any age of the voice and any of the face.

    Ages are as far apart as they are, or as one is in doubt. Gender counts if both are grown up: a boy sounds like a
    girl.
    """
    of_voice, of_face = (doubt(np.array([1 - of.male, of.male])) for of in (voice, face))
    gender = gap(float(np.maximum(of_voice, of_face).min()))
    doubts = np.maximum(doubt(voice.ages)[:, None], doubt(face.ages))
    ages = np.maximum(np.abs(AGE_PLACES[:, None] - AGE_PLACES), doubts)
    return max(
        timbre_grade(gender if heard and seen else Gap.FINE, gap(float(ages[heard, seen])))
        for heard in range(len(AGES))
        for seen in range(len(AGES))
    )


def emotion_consistency(voice: Traits, face: Traits) -> float:
    """One of the five grades, by the share of the face's frames that may have an emotion which the voice may have."""
    shared = (doubt(voice.emotions) == 0) & (doubt(face.emotions) == 0)
    return emotion_grade(float(shared.any(axis=-1).mean()))


def kind_of(mood: str, strength: float) -> int:
    """Index into KINDS."""
    return KINDS.index((mood, mood != "neutral" and strength >= STRONG_FROM))


def age_of(years: float) -> int:
    """Index into AGES."""
    return int(years >= CHILD_BELOW) + int(years >= OLD_FROM)
