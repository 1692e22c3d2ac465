"""Training of the lip sync encoder on rendered clips, in two parts. [ours]

The first part trains the lip encoder to predict the renderer's lip shapes of single frames. The second trains both
streams contrastively on features of the lip encoder, computed once for some augmentations of every clip: a window of
half a second of lips is matched with its own audio, against all shifts of it and the audio of other clips.

Letters: F k frames, b batch, s side, n steps, l mel frames, w windows, d embedding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.data.rendered import RENDERED_FPS, RenderedSample
from uniavgen.errors import DataError
from uniavgen.perception.frames import to_tensor
from uniavgen.perception.lip_sync import (
    FEATURES,
    MOUTH_BELOW,
    MOUTH_PX,
    MOUTH_SHARE,
    LipSyncEncoder,
    normalize_mel,
    resample_lips,
    to_grey,
)
from uniavgen.perception.voice_features import LIP_SYNC_MEL, waveform_log_mel
from uniavgen.synth.arkit import INDEX
from uniavgen.training.loop import Callback
from uniavgen.training.objective import Objective
from uniavgen.training.perception.augmentation import Augmentation, uniform
from uniavgen.training.perception.run import PerceptionTrainConfig, initialise, train_network
from uniavgen.training.randomness import torch_generator

MARGIN = 4 / 3
"""Side of the stored crops over that of the network's input, as room for the augmentation."""
LIP_SHAPES = (
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
"""Targets of the lip encoder besides the opening of the mouth."""
AUGMENTATION = Augmentation(side=MOUTH_PX, zoom=(0.8 / MARGIN, 1.25 / MARGIN), shift=0.15)
LIP_CLIPS, LIP_FRAMES = 16, 6
"""Clips of a batch and frames of each, for the lip encoder."""
VIEWS = 2
"""Augmentations of every clip that the streams are trained on, besides the original."""
BATCH, MAX_SHIFT, WINDOW = 16, 30, 25
"""Clips of a batch, largest shift and length of a window in steps of 20 ms, for the streams."""


@dataclass(frozen=True, kw_only=True)
class LipSyncDataset:
    """Mouths of many clips in memory."""

    images: Sequence[UInt8[Tensor, "F 1 s s"]]
    lips: Sequence[Float[Tensor, "F lips"]]
    """The renderer's truth, standardised over all clips."""
    sounds: Sequence[Float[Tensor, "l mel"]]
    """Of the first clips; the others are too short for sync and train the lip encoder only."""

    @classmethod
    def from_clips(cls, clips: Iterable[RenderedSample]) -> "LipSyncDataset":
        """Returns the mouths of all clips, and the audio of those of two seconds and more.

        Raises DataError where fewer than two clips are so long.
        """
        long, short = [], []
        for clip in clips:
            track = clip.face_track()
            squares = track.crops(clip.frames, round(MOUTH_PX * MARGIN), MOUTH_SHARE * MARGIN, MOUTH_BELOW)
            mouth = ((to_grey(to_tensor(squares)) + 1) * 127.5).round().to(torch.uint8), _lip_targets(clip)
            if len(clip.frames) < 2 * RENDERED_FPS:
                short.append(mouth)
            else:
                long.append((*mouth, torch.from_numpy(waveform_log_mel(clip.speech_waveform, LIP_SYNC_MEL))))
        if len(long) < 2:
            raise DataError("sync needs two clips of two seconds or more; render some with `uniavgen synth`")
        lips = [targets for _, targets, *_ in (*long, *short)]
        all_lips = torch.cat(lips)
        mean, deviation = all_lips.mean(dim=0), all_lips.std(dim=0) + 1e-3
        return cls(
            images=[images for images, *_ in (*long, *short)],
            lips=[(targets - mean) / deviation for targets in lips],
            sounds=[sound for *_, sound in long],
        )


@dataclass(frozen=True, kw_only=True)
class LipBatch:
    """Augmented mouths of some frames of some clips, and their lip shapes."""

    mouths: Float[Tensor, "b k 1 s s"]
    lips: Float[Tensor, "b k lips"]


class LipReaderObjective(Objective[LipBatch]):
    """L = L_shape + L_change + 0.1 L_size: lip shapes of single frames by a head that is dropped afterwards.

    L_shape is the smooth absolute error of the shapes, L_change the square error of their deviation from the clip's
    mean, L_size the square distance of the features' deviations from 1.
    """

    def __init__(self, encoder: LipSyncEncoder, dataset: LipSyncDataset, seed: int, rng: torch.Generator) -> None:
        self.dataset = dataset
        self.seed = seed
        self.lip_reader = encoder.lip_reader
        self.head = nn.Linear(FEATURES, 1 + len(LIP_SHAPES))
        initialise(self.head, rng)
        self.model = nn.ModuleDict({"lip_reader": self.lip_reader, "head": self.head})

    def batch(self, step: int) -> LipBatch:
        rng, dataset = torch_generator(self.seed, step, 0), self.dataset
        mouths, lips = [], []
        # Half of a batch from long clips: short ones show fewer shapes.
        bounds = [len(dataset.sounds)] * (LIP_CLIPS // 2) + [len(dataset.images)] * (LIP_CLIPS - LIP_CLIPS // 2)
        for bound in bounds:
            clip = int(torch.randint(bound, (1,), generator=rng))
            picks = torch.randint(len(dataset.images[clip]), (LIP_FRAMES,), generator=rng)
            mouths.append(AUGMENTATION.apply(dataset.images[clip][picks].float() / 127.5 - 1, rng))
            lips.append(dataset.lips[clip][picks])
        return LipBatch(mouths=torch.stack(mouths), lips=torch.stack(lips))

    def losses(self, batch: LipBatch, step: int) -> dict[str, Tensor]:
        del step
        features = self.lip_reader(rearrange(batch.mouths, "b k c h w -> (b k) c h w"))
        predicted = rearrange(self.head(features), "(b k) lips -> b k lips", k=LIP_FRAMES)
        shape = F.smooth_l1_loss(predicted, batch.lips)
        change = F.mse_loss(_centred(predicted), _centred(batch.lips))
        # The features have to be of about unit size, since `resample_lips` adds a floor to their deviation.
        size = (features.std(dim=0) - 1).square().mean()
        return {"total": shape + change + 0.1 * size, "shape": shape, "change": change, "size": size}


@dataclass(frozen=True, kw_only=True)
class StreamBatch:
    """Lip features and normalised log-mel of some clips, on one time axis."""

    lips: Float[Tensor, "b features n"]
    log_mel: Float[Tensor, "b mel l"]


class StreamObjective(Objective[StreamBatch]):
    """`contrastive_loss` of both streams over the features of a lip reader that is trained already."""

    def __init__(self, encoder: LipSyncEncoder, dataset: LipSyncDataset, seed: int, rng: torch.Generator) -> None:
        self.seed = seed
        self.encoder = encoder
        self.clips = _lip_features(encoder, dataset, rng)
        self.sounds = [normalize_mel(sound.T[None])[0].T for sound in dataset.sounds]
        self.log_scale = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.log_scale.weight, 2.3)
        # Without the lip reader, which stays in eval mode and as it is.
        self.model = nn.ModuleDict({"seen": encoder.seen, "heard": encoder.heard, "log_scale": self.log_scale})

    def batch(self, step: int) -> StreamBatch:
        rng = torch_generator(self.seed, step, 1)
        chosen = torch.randperm(len(self.clips), generator=rng)[:BATCH].tolist()
        length = min(len(self.sounds[clip]) // 2 for clip in chosen)
        views = torch.randint(VIEWS + 1, (len(chosen),), generator=rng).tolist()
        lips = torch.stack([self.clips[clip][view][:, :length] for clip, view in zip(chosen, views, strict=True)])
        log_mel = torch.stack([self.sounds[clip][: 2 * length] for clip in chosen])
        return StreamBatch(lips=lips.float(), log_mel=_with_noise(rearrange(log_mel, "b l mel -> b mel l"), rng))

    def losses(self, batch: StreamBatch, step: int) -> dict[str, Tensor]:
        del step
        lips, sound = self.encoder.embed_lips(batch.lips), self.encoder.embed_mel(batch.log_mel)
        return {"total": contrastive_loss(lips, sound, self.log_scale.weight[0, 0].exp())}


def train_lip_sync(
    dataset: LipSyncDataset,
    lips: PerceptionTrainConfig,
    streams: PerceptionTrainConfig,
    seed: int = 0,
    callbacks: Iterable[Callback] = (),
) -> LipSyncEncoder:
    """Trains an encoder from scratch, first its lip reader and then its streams; the same input gives the same
    weights."""
    rng = torch.Generator().manual_seed(seed)
    encoder = LipSyncEncoder()
    initialise(encoder, rng)
    train_network(LipReaderObjective(encoder, dataset, seed, rng), lips, callbacks)
    train_network(StreamObjective(encoder, dataset, seed, rng), streams, callbacks)
    return encoder.eval()


def contrastive_loss(
    lips: Float[Tensor, "b d n"], sound: Float[Tensor, "b d n"], logit_scale: Tensor
) -> Float[Tensor, ""]:
    """Returns the cross entropy of choosing the clip's own audio at no shift, for windows of half a second of lips.

    The candidates of a window are its own audio at 2 MAX_SHIFT + 1 shifts and the unshifted audio of the other clips;
    the target is a Gaussian of one step around shift 0.
    """
    shifted = sound.unfold(2, 2 * MAX_SHIFT + 1, 1)
    middle = lips[:, :, MAX_SHIFT : lips.shape[2] - MAX_SHIFT]
    own = einsum(middle, shifted, "b d n, b d n k -> b k n")
    others = einsum(middle, sound[:, :, MAX_SHIFT : sound.shape[2] - MAX_SHIFT], "b d n, c d n -> b c n")
    # The mean over a window of steps, half overlapping, is the similarity of the window.
    own, others = (F.avg_pool1d(part, WINDOW, WINDOW // 2) for part in (own, others))
    itself = torch.eye(len(lips), dtype=torch.bool)[..., None]
    logits = torch.cat([logit_scale * own, (logit_scale * others).masked_fill(itself, -torch.inf)], dim=1)
    near = torch.exp(-0.5 * (torch.arange(-MAX_SHIFT, MAX_SHIFT + 1) / 1.0) ** 2)
    target = torch.cat([near / near.sum(), torch.zeros(len(lips))])
    log_probability = F.log_softmax(logits, dim=1)
    # 0 * -inf would be NaN where a clip meets itself among the others.
    log_probability = log_probability.masked_fill(log_probability.isinf(), 0.0)
    return -(log_probability * target[None, :, None]).sum(dim=1).mean()


@torch.no_grad()
def _lip_features(
    encoder: LipSyncEncoder, dataset: LipSyncDataset, rng: torch.Generator
) -> list[list[Float[Tensor, "features n"]]]:
    """Returns the lip features of every clip with sound, as it is and augmented, on steps of 20 ms."""
    encoder.eval()
    features = []
    for mouths in dataset.images[: len(dataset.sounds)]:
        images = mouths.float() / 127.5 - 1
        border = (images.shape[-1] - MOUTH_PX) // 2
        original = images[..., border : border + MOUTH_PX, border : border + MOUTH_PX]
        views = [original, *(AUGMENTATION.apply(images, rng) for _ in range(VIEWS))]
        features.append([resample_lips(encoder.lip_reader(view), RENDERED_FPS).half() for view in views])
    return features


def _with_noise(sound: Float[Tensor, "b mel l"], rng: torch.Generator) -> Float[Tensor, "b mel l"]:
    """Adds a noise floor and noise to log-mel frames, as other rooms would."""
    floor = uniform(rng, -3.0, 0.0, len(sound), 1, 1)
    noise = torch.randn(sound.shape, generator=rng) * uniform(rng, 0.0, 0.2, len(sound), 1, 1)
    # Log-mel frames were halved by `normalize_mel`, so powers add at twice their values.
    sound = torch.logaddexp(2 * sound, 2 * floor) / 2 + noise
    return sound - sound.mean(dim=2, keepdim=True)


def _lip_targets(clip: RenderedSample) -> Float[Tensor, "F lips"]:
    shapes = clip.arkit_weights()[:, [INDEX[name] for name in LIP_SHAPES]]
    return torch.from_numpy(np.concatenate([clip.truth.mouth_opening[:, None], shapes], axis=1))


def _centred(values: Float[Tensor, "b k t"]) -> Float[Tensor, "b k t"]:
    return values - values.mean(dim=1, keepdim=True)
