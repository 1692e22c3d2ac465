"""Gender, age and emotion of a person, predicted from a voice and from a face by small networks of our own. [ours]

Both networks give the same eleven logits and were trained on the truth of the synthetic world: its three ages, its four
emotions, two strengths of each but neutral. They are not to be trusted on real people (docs/evaluation.md).

Letters: F frames, s side, b batch, l mel frames.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from uniavgen.perception.face_track import FaceTrack
from uniavgen.perception.frames import to_tensor
from uniavgen.perception.layers import FullConvBlock
from uniavgen.perception.loading import load_own, shipped_weights
from uniavgen.perception.voice_features import VOICE_MEL, PitchStatistics, waveform_log_mel

AGES = ("child", "grown", "old")
CHILD_BELOW, OLD_FROM = 16.0, 62.5
"""Years."""
EMOTIONS = ("neutral", "happy", "angry", "sad")
STRONG_FROM = 0.8
"""Strength of a mood from which it is strong. [ours]"""
MOOD_CLASSES = (("neutral", False), *((name, strong) for name in EMOTIONS[1:] for strong in (False, True)))
"""Classes of the networks: emotion, and whether it is strong."""
NUM_LOGITS = 1 + len(AGES) + len(MOOD_CLASSES)
FACE_PX, FACE_SHARE = 80, 1.5
"""The square around a face: its side in pixels, and in sizes of the face. [ours]"""
FACES_PER_S = 8.0
"""How many frames a second are looked at. [ours]"""
FACE_SMOOTHING_S = 0.4
"""Standard deviation of the smoothing of a face's logits over time. [ours]"""
ACTIVE_POWER = 0.03
"""A frame of a voice is active if its power is at least this share of the loudest frame's. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Probabilities of a person's traits."""

    male: float
    ages: Float[np.ndarray, " ages"]
    moods: Float[np.ndarray, "*frames moods"]
    """Of a voice once, of a face for every frame that was looked at."""

    @property
    def emotions(self) -> Float[np.ndarray, "*frames emotions"]:
        """Returns the probabilities of EMOTIONS, summed over strengths."""
        groups = [[i for i, (emotion, _) in enumerate(MOOD_CLASSES) if emotion == name] for name in EMOTIONS]
        return np.stack([self.moods[..., group].sum(axis=-1) for group in groups], axis=-1)

    def describe(self) -> str:
        """Returns the most likely traits in words, such as 'female, child, sad'."""
        emotions = self.emotions.reshape(-1, len(EMOTIONS)).mean(axis=0)
        gender = "male" if self.male > 0.5 else "female"
        return f"{gender}, {AGES[int(self.ages.argmax())]}, {EMOTIONS[int(emotions.argmax())]}"

    @classmethod
    def from_logits(cls, logits: Float[Tensor, "*frames logits"]) -> "Traits":
        """Turns a network's logits into probabilities; gender and age from the mean of the logits over frames."""
        gender, ages, moods = logits.split([1, len(AGES), len(MOOD_CLASSES)], dim=-1)
        mean_gender, mean_ages = gender.reshape(-1, 1).mean(dim=0), ages.reshape(-1, len(AGES)).mean(dim=0)
        return cls(
            male=float(mean_gender.sigmoid()), ages=mean_ages.softmax(-1).numpy(), moods=moods.softmax(-1).numpy()
        )


class FaceTraitClassifier(nn.Module):
    """One square around a face to NUM_LOGITS numbers."""

    WIDTH = 128
    """Of the embedding before the last layer."""

    # The names of the layers are those of the shipped weights.
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            FullConvBlock(32),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            FullConvBlock(64),
            FullConvBlock(64),
            nn.Conv2d(64, 96, 3, stride=2, padding=1),
            FullConvBlock(96),
            FullConvBlock(96),
            nn.BatchNorm2d(96),
            nn.ReLU(),
            nn.Conv2d(96, 32, 1),
        )
        self.known = nn.Sequential(nn.Linear(32 * (FACE_PX // 16) ** 2, self.WIDTH), nn.ReLU())
        self.answer = nn.Linear(self.WIDTH, NUM_LOGITS)

    def embed(self, squares: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b width"]:
        """Returns the input of the last layer; values in [-1, 1]."""
        return self.known(rearrange(self.features(squares), "b c h w -> b (c h w)"))

    def forward(self, squares: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b logits"]:
        """Returns the log-odds of male, logits of AGES, logits of MOOD_CLASSES."""
        return self.answer(self.embed(squares))

    @torch.no_grad()
    def predict(self, frames: UInt8[np.ndarray, "F H W 3"], fps: float, track: FaceTrack) -> Traits:
        """Predicts the traits of a clip's face; moods for about FACES_PER_S frames a second, smoothed over time."""
        picks = np.arange(0, len(frames), max(round(fps / FACES_PER_S), 1))
        squares = to_tensor(track.at(picks).crops(frames[picks], FACE_PX, FACE_SHARE))
        logits = torch.cat([self(part) for part in squares.split(64)])
        times = torch.from_numpy(picks / fps).float()
        weights = torch.exp(-0.5 * ((times[:, None] - times) / FACE_SMOOTHING_S) ** 2)
        return Traits.from_logits(weights @ logits / weights.sum(dim=1, keepdim=True))

    @classmethod
    def load(cls, path: Path | None = None) -> "FaceTraitClassifier":
        """Loads the network at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load_own(cls(), path or shipped_weights("face_reader"), "face reader", "train-reader face")


class VoiceTraitClassifier(nn.Module):
    """Statistics of a voice (`voice_statistics`) to NUM_LOGITS numbers.

    Loudness plays no part: it belongs to the recording.
    """

    NUM_STATISTICS = 3 * VOICE_MEL.num_mel + 2

    # The name of the layers is that of the shipped weights.
    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Sequential(
            nn.BatchNorm1d(self.NUM_STATISTICS, affine=False),
            nn.Linear(self.NUM_STATISTICS, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, NUM_LOGITS),
        )

    def forward(self, statistics: Float[Tensor, "b statistics"]) -> Float[Tensor, "b logits"]:
        """Returns the log-odds of male, logits of AGES, logits of MOOD_CLASSES."""
        return self.answer(statistics)

    @torch.no_grad()
    def predict(self, waveform: Float32[np.ndarray, " samples"]) -> Traits:
        """Predicts the traits of a 16 kHz voice."""
        log_mel = torch.from_numpy(waveform_log_mel(waveform, VOICE_MEL))
        pitch = torch.from_numpy(PitchStatistics.of(waveform).values())
        return Traits.from_logits(self(voice_statistics(log_mel[None], pitch[None]))[0])

    @classmethod
    def load(cls, path: Path | None = None) -> "VoiceTraitClassifier":
        """Loads the network at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load_own(cls(), path or shipped_weights("voice_reader"), "voice reader", "train-reader voice")


def voice_statistics(log_mel: Float[Tensor, "b l mel"], pitch: Float[Tensor, "b 2"]) -> Float[Tensor, "b statistics"]:
    """Returns per mel bin mean, deviation and log of the mean power over the active frames, and the pitch.

    Means are taken relative to their mean over the bins, so a gain changes nothing.
    """
    power = log_mel.exp()
    frame_power = power.sum(dim=2, keepdim=True)
    active = (frame_power > ACTIVE_POWER * frame_power.amax(dim=1, keepdim=True)).to(log_mel)
    weights = active / active.sum(dim=1, keepdim=True)
    mean = (log_mel * weights).sum(dim=1)
    deviation = ((log_mel - mean[:, None]).square() * weights).sum(dim=1).add(1e-5).sqrt()
    log_power = (power * weights).sum(dim=1).clamp(min=1e-12).log()
    level = mean.mean(dim=1, keepdim=True)
    return torch.cat([mean - level, deviation, log_power - level, pitch], dim=1)


def mood_class(emotion: str, strength: float) -> int:
    """Returns the index into MOOD_CLASSES."""
    return MOOD_CLASSES.index((emotion, emotion != "neutral" and strength >= STRONG_FROM))


def age_class(years: float) -> int:
    """Returns the index into AGES."""
    return int(years >= CHILD_BELOW) + int(years >= OLD_FROM)
