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
from torch.nn import functional as F

from uniavgen.evaluation.readers.blocks import Ripple, picture_features
from uniavgen.evaluation.readers.hearing import VOICE_MEL, Tone, mel
from uniavgen.evaluation.readers.locator import FacePath, to_tensor
from uniavgen.evaluation.readers.rubric import emotion_grade, gap, timbre_grade
from uniavgen.evaluation.readers.storing import load, shipped

AGES = ("child", "grown", "old")
CHILD_BELOW, OLD_FROM = 16.0, 62.5
"""Years."""
AGE_PLACES = np.array([0.0, 1.0, 1.3])
"""Where the ages stand for telling how far two are apart: grown and old voices are nearly alike. [ours]"""
EMOTIONS = ("neutral", "happy", "angry", "sad")
STRONG_FROM = 0.8
"""Strength of a mood from which it is strong. [ours]"""
KINDS = (("neutral", False), *((name, strong) for name in EMOTIONS[1:] for strong in (False, True)))
"""Emotion, and whether it is strong."""
ANSWERS = 1 + len(AGES) + len(KINDS)
FACE_PX, FACE_SHARE = 64, 1.4
"""The square around a face: its side in pixels, and in sizes of the face. [ours]"""
FACES_PER_S = 8.0
"""How often a face is looked at. [ours]"""
MOMENT_S = 0.4
"""Deviation of the smoothing over time of what a face shows. [ours]"""
LEVELS_DB, LEVEL_WIDTH_DB = tuple(-10 + 0.4 * step for step in range(21)), 0.4
"""Peaks of a voice that are told apart: moods of the world differ by 6 dB at most, some by half a dB. [ours]"""


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

    def __init__(self) -> None:
        super().__init__()
        self.features = picture_features(3, 64, 12)
        self.answer = nn.Sequential(nn.Linear(12 * (FACE_PX // 8) ** 2, 96), nn.ReLU(), nn.Linear(96, ANSWERS))

    def forward(self, squares: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b answers"]:
        """Log-odds of male, logits of AGES, logits of KINDS; values in [-1, 1]."""
        return self.answer(rearrange(self.features(squares), "b c h w -> b (c h w)"))

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
    def load(cls, path: Path) -> "FaceReader":
        """The reader stored at `path`; CheckpointError if it is none. The package has none."""
        return load(cls(), path, "face reader", "train-reader face")


class VoiceReader(nn.Module):
    """A voice to ANSWERS numbers, from mean and spread over time of what convolutions hear, and its tone."""

    WIDTH = 80

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(VOICE_MEL.num_mel, self.WIDTH, 5, stride=2, padding=2),
            Ripple(self.WIDTH, 1),
            Ripple(self.WIDTH, 2),
            nn.BatchNorm1d(self.WIDTH),
            nn.ReLU(),
        )
        self.answer = nn.Sequential(
            nn.Linear(2 * self.WIDTH + 2 + len(LEVELS_DB), 96), nn.ReLU(), nn.Linear(96, ANSWERS)
        )

    def forward(self, log_mel: Float[Tensor, "b l mel"], tone: Float[Tensor, "b 3"]) -> Float[Tensor, "b answers"]:
        """Log-odds of male, logits of AGES, logits of KINDS, out of raw log-mel and `Tone.values`."""
        heard = self.features(rearrange((log_mel + 5) / 3, "b l mel -> b mel l"))
        # Only what sounds counts: silence before and after is as long as it happens to be.
        loud = log_mel.exp().sum(dim=2)
        sounds = (loud > 0.03 * loud.amax(dim=1, keepdim=True)).to(heard)
        sounds = F.max_pool1d(sounds[:, None], 2, ceil_mode=True)[..., : heard.shape[2]]
        weights = sounds / sounds.sum(dim=2, keepdim=True)
        mean = (heard * weights).sum(dim=2)
        spread = ((heard - mean[..., None]).square() * weights).sum(dim=2).add(1e-5).sqrt()
        pitch, level = 2 * tone[:, :2], tone[:, 2:]
        levels = torch.exp(-0.5 * ((level - torch.tensor(LEVELS_DB)) / LEVEL_WIDTH_DB) ** 2)
        return self.answer(torch.cat([mean, spread, pitch, levels], dim=1))

    @torch.no_grad()
    def read(self, waveform: Float32[np.ndarray, " samples"]) -> Traits:
        """Of 16 kHz sound."""
        heard, tone = torch.from_numpy(mel(waveform, VOICE_MEL)), torch.from_numpy(Tone.of(waveform).values())
        return to_traits(self(heard[None], tone[None])[0])

    @classmethod
    def load(cls, path: Path | None = None) -> "VoiceReader":
        """The reader stored at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load(cls(), path or shipped("voice_reader"), "voice reader", "train-reader voice")


def timbre_consistency(voice: Traits, face: Traits) -> float:
    """One of the five grades. Gender counts as far as both are grown up: a boy sounds like a girl."""
    grown = float((1 - voice.ages[0]) * (1 - face.ages[0]))
    gender = abs(voice.male - face.male) * grown
    age = abs(float(AGE_PLACES @ voice.ages) - float(AGE_PLACES @ face.ages))
    return timbre_grade(gap(gender), gap(age))


def emotion_consistency(voice: Traits, face: Traits) -> float:
    """One of the five grades, by the share of the face's frames whose emotion is the voice's."""
    return emotion_grade(float((face.emotions.argmax(axis=-1) == voice.emotions.argmax()).mean()))


def kind_of(mood: str, strength: float) -> int:
    """Index into KINDS."""
    return KINDS.index((mood, mood != "neutral" and strength >= STRONG_FROM))


def age_of(years: float) -> int:
    """Index into AGES."""
    return int(years >= CHILD_BELOW) + int(years >= OLD_FROM)
