"""Training of the sync reader on rendered clips, in two parts. [ours]

First the lips are read frame by frame, with the truth of the renderer as teacher. Then both streams are learned by
contrast on what the lip reader sees in some distortions of every clip: half a second of lips has to find its own sound
among all shifts of it and among the sounds of other clips.

Letters: F k frames, b batch, s side, n steps, l mel frames, w windows, d embedding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.errors import DataError
from uniavgen.evaluation.readers.fitting import Distortion, Fitting, between, fit, initialise
from uniavgen.evaluation.readers.hearing import LIPS_MEL, mel
from uniavgen.evaluation.readers.locator import to_tensor
from uniavgen.evaluation.readers.rendered import FPS, arkit_of, at_speech_rate, true_path
from uniavgen.evaluation.readers.sync import (
    FEATURES,
    LIPS_BELOW,
    LIPS_PX,
    LIPS_SHARE,
    SyncReader,
    grey,
    level,
    on_steps,
)
from uniavgen.evaluation.truth import TruthClip
from uniavgen.synth.arkit import INDEX

MARGIN = 4 / 3
"""Side of the squares that are kept over that of what is looked at."""
LIPS = (
    "jawOpen",
    "mouthFunnel",
    "mouthPucker",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthStretchLeft",
    "mouthLowerDownLeft",
    "mouthUpperUpLeft",
    "mouthPressLeft",
    "mouthSmileLeft",
    "mouthFrownLeft",
)
"""What the lip reader is taught besides the opening of the mouth."""
DISTORTED = Distortion(side=LIPS_PX, zoom=(0.8 / MARGIN, 1.25 / MARGIN), shift=0.15)
LIP_CLIPS, LIP_FRAMES = 16, 6
"""Clips of a batch and frames of each, for the lip reader."""
VIEWS = 2
"""Distortions of every clip that the streams learn from, beside the picture as it is."""
BATCH, REACH, WINDOW = 16, 30, 25
"""Clips of a batch, largest shift and length of a window in steps of 20 ms, for the streams."""


@dataclass(frozen=True, kw_only=True)
class Mouths:
    """Mouths of many clips in memory."""

    pictures: Sequence[UInt8[Tensor, "F 1 s s"]]
    lips: Sequence[Float[Tensor, "F lips"]]
    """What the truth says of them, at unit spread over all clips."""
    sounds: Sequence[Float[Tensor, "l mel"]]
    """Of the first clips; the others are too short to be heard and teach lips only."""

    @classmethod
    def gather(cls, clips: Iterator[TruthClip]) -> "Mouths":
        """All clips; those of two seconds and more with their sound."""
        talking, short = [], []
        for clip in clips:
            squares = true_path(clip).squares(clip.frames, round(LIPS_PX * MARGIN), LIPS_SHARE * MARGIN, LIPS_BELOW)
            mouth = ((grey(to_tensor(squares)) + 1) * 127.5).round().to(torch.uint8), _lips(clip)
            if len(clip.frames) < 2 * FPS:
                short.append(mouth)
            else:
                talking.append((*mouth, torch.from_numpy(mel(at_speech_rate(clip.sample.waveform), LIPS_MEL))))
        if len(talking) < 2:
            raise DataError("sync needs two clips of two seconds or more; render some with `uniavgen synth`")
        lips = [said for _, said, *_ in (*talking, *short)]
        every = torch.cat(lips)
        mean, spread = every.mean(dim=0), every.std(dim=0) + 1e-3
        return cls(
            pictures=[pictures for pictures, *_ in (*talking, *short)],
            lips=[(said - mean) / spread for said in lips],
            sounds=[sound for *_, sound in talking],
        )


def train_sync(
    clips: Mouths,
    lips: Fitting,
    streams: Fitting,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> SyncReader:
    """A reader trained from nothing; the same clips and settings give the same one."""
    rng = torch.Generator().manual_seed(seed)
    reader = SyncReader()
    initialise(reader, rng)
    _learn_lips(reader, clips, lips, rng, on_step)
    _learn_streams(reader, clips, streams, rng, lambda step, loss: on_step and on_step(lips.steps + step, loss))
    return reader.eval()


def _learn_lips(
    reader: SyncReader,
    clips: Mouths,
    config: Fitting,
    rng: torch.Generator,
    on_step: Callable[[int, float], None] | None,
) -> None:
    teacher = nn.Linear(FEATURES, 1 + len(LIPS))
    initialise(teacher, rng)

    def loss() -> Tensor:
        mouths, truth = [], []
        # Half of a batch from those that talk: short clips show fewer shapes.
        bounds = [len(clips.sounds)] * (LIP_CLIPS // 2) + [len(clips.pictures)] * (LIP_CLIPS - LIP_CLIPS // 2)
        for bound in bounds:
            clip = int(torch.randint(bound, (1,), generator=rng))
            picks = torch.randint(len(clips.pictures[clip]), (LIP_FRAMES,), generator=rng)
            mouths.append(DISTORTED.apply(clips.pictures[clip][picks].float() / 127.5 - 1, rng))
            truth.append(clips.lips[clip][picks])
        features = reader.lip_reader(torch.cat(mouths))
        said = rearrange(teacher(features), "(b k) t -> b k t", b=LIP_CLIPS)
        wanted = torch.stack(truth)
        # The features have to be of about unit size, since the streams see them against a floor.
        size = (features.std(dim=0) - 1).square().mean()
        return F.smooth_l1_loss(said, wanted) + F.mse_loss(_centred(said), _centred(wanted)) + 0.1 * size

    fit([reader.lip_reader, teacher], loss, config, on_step)


def _learn_streams(
    reader: SyncReader,
    clips: Mouths,
    config: Fitting,
    rng: torch.Generator,
    on_step: Callable[[int, float], None],
) -> None:
    seen, sounds = _views(reader, clips, rng), [level(sound.T[None])[0].T for sound in clips.sounds]
    warmth = nn.Linear(1, 1, bias=False)
    nn.init.constant_(warmth.weight, 2.3)

    def loss() -> Tensor:
        chosen = torch.randperm(len(seen), generator=rng)[:BATCH].tolist()
        length = min(len(sounds[clip]) // 2 for clip in chosen)
        views = torch.randint(VIEWS + 1, (len(chosen),), generator=rng).tolist()
        lips = torch.stack([seen[clip][view][:, :length] for clip, view in zip(chosen, views, strict=True)])
        sound = torch.stack([sounds[clip][: 2 * length] for clip in chosen])
        heard = reader.hear(_noisy(rearrange(sound, "b l mel -> b mel l"), rng))
        return contrast(reader.see(lips.float()), heard, warmth.weight[0, 0].exp())

    fit([reader.seen, reader.heard, warmth], loss, config, on_step)


def contrast(seen: Float[Tensor, "b d n"], heard: Float[Tensor, "b d n"], warmth: Tensor) -> Float[Tensor, ""]:
    """Cross entropy of finding the own sound at no shift, for windows of half a second of lips."""
    shifted = heard.unfold(2, 2 * REACH + 1, 1)
    middle = seen[:, :, REACH : seen.shape[2] - REACH]
    own = einsum(middle, shifted, "b d n, b d n k -> b k n")
    others = einsum(middle, heard[:, :, REACH : heard.shape[2] - REACH], "b d n, c d n -> b c n")
    own, others = (F.avg_pool1d(part, WINDOW, WINDOW // 2) for part in (own, others))
    itself = torch.eye(len(seen), dtype=torch.bool)[..., None]
    logits = torch.cat([warmth * own, (warmth * others).masked_fill(itself, -torch.inf)], dim=1)
    near = torch.exp(-0.5 * (torch.arange(-REACH, REACH + 1) / 1.0) ** 2)
    target = torch.cat([near / near.sum(), torch.zeros(len(seen))])
    chance = F.log_softmax(logits, dim=1)
    return -(chance.masked_fill(chance.isinf(), 0.0) * target[None, :, None]).sum(dim=1).mean()


@torch.no_grad()
def _views(reader: SyncReader, clips: Mouths, rng: torch.Generator) -> list[list[Float[Tensor, "features n"]]]:
    """What the lip reader makes of every clip as it is and in some distortions, on steps of 20 ms."""
    reader.eval()
    views = []
    for mouths in clips.pictures[: len(clips.sounds)]:
        pictures = mouths.float() / 127.5 - 1
        border = (pictures.shape[-1] - LIPS_PX) // 2
        plain = pictures[..., border : border + LIPS_PX, border : border + LIPS_PX]
        versions = [plain, *(DISTORTED.apply(pictures, rng) for _ in range(VIEWS))]
        views.append([on_steps(reader.lip_reader(version), FPS).half() for version in versions])
    return views


def _noisy(sound: Float[Tensor, "b mel l"], rng: torch.Generator) -> Float[Tensor, "b mel l"]:
    """Other rooms: a floor of noise, and grain."""
    floor = between(rng, -3.0, 0.0, len(sound), 1, 1)
    grain = torch.randn(sound.shape, generator=rng) * between(rng, 0.0, 0.2, len(sound), 1, 1)
    sound = torch.logaddexp(2 * sound, 2 * floor) / 2 + grain
    return sound - sound.mean(dim=2, keepdim=True)


def _lips(clip: TruthClip) -> Float[Tensor, "F lips"]:
    arkit = arkit_of(clip)[:, [INDEX[name] for name in LIPS]]
    return torch.from_numpy(np.concatenate([clip.truth.mouth_opening[:, None], arkit], axis=1))


def _centred(values: Float[Tensor, "b k t"]) -> Float[Tensor, "b k t"]:
    return values - values.mean(dim=1, keepdim=True)
