"""Shows what a stage would train on, before it does: its data, its first batch to look at and hear, memory and time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from uniavgen.codecs import mel
from uniavgen.codecs.video_vae import VideoCodec, to_frames
from uniavgen.codecs.vocoder import GriffinLimVocoder, as_vocoder
from uniavgen.data.dataset import Batch, TrainingData
from uniavgen.media.audio import write_wav
from uniavgen.media.mux import write_clip
from uniavgen.training.config import TrainConfig
from uniavgen.training.dataloader import StepDataset
from uniavgen.workflows.load_codecs import ModelCodecs, load_codecs
from uniavgen.workflows.plan_training import Machine, TrainingPlan, plan_training

FOLDER: Final = "check"
_OUTSIDE_FACE: Final = 0.35
"""Brightness of what the face mask leaves out."""


@dataclass(frozen=True, kw_only=True)
class BucketCount:
    """A bucket of the data."""

    name: str
    """Size and length for people."""
    num_clips: int
    batch_size: int
    """Clips a step, over all processes."""


@dataclass(frozen=True, kw_only=True)
class CheckedClip:
    """A clip of the first batch."""

    folder: str
    key: str
    text: str
    """Its transcript."""
    files: tuple[Path, ...]
    """What was decoded of it: the clip, beside it its face mask, and the reference voice; empty without codecs."""


@dataclass(frozen=True, kw_only=True)
class TrainingCheck:
    """What a stage would train on."""

    sources: Sequence[tuple[str, int]]
    """Folder and clips of each feature set."""
    buckets: Sequence[BucketCount]
    misfits: Sequence[str]
    """What is left out of each feature set, and why."""
    epochs: float
    """How often the run takes each clip."""
    task: str
    """Task of the first step."""
    clips: Sequence[CheckedClip]
    plan: TrainingPlan
    """Memory and time, for GPUs."""

    def lines(self) -> list[str]:
        """Returns the check for people."""
        lines = [f"{count} clips in {folder}" for folder, count in self.sources]
        lines += [f"  {each.name}: {each.num_clips} clips, {each.batch_size} a step" for each in self.buckets]
        lines += [f"left out: {text}" for text in self.misfits]
        lines += [f"every clip is taken {self.epochs:.1f} times", f"first batch, task {self.task}:"]
        for clip in self.clips:
            files = f" -> {', '.join(map(str, clip.files))}" if clip.files else ""
            lines.append(f"  {clip.key}: {clip.text}{files}")
        return [*lines, self.plan.describe(), *self.plan.table()]


def check_training(
    config: TrainConfig, data: TrainingData, out: Path, machine: Machine, codecs: Path | None, device: torch.device
) -> TrainingCheck:
    """Reads the first batch and decodes it to `out`/check where there are codecs; loads no transformer.

    Raises ConfigError where a batch cannot be shared by the machine's GPUs, CheckpointError for damaged codecs,
    OutputError where `out` cannot be written.
    """
    clips = data.clips
    plan = plan_training(config, clips.buckets, machine)
    first = StepDataset(data=data, mixture=config.stage.tasks, seed=config.train.seed)
    batch, samples = first[0], first.samples(0)
    loaded = None if codecs is None else load_codecs(codecs, str(device))
    sizes = clips.schedule.batch_sizes
    buckets = [
        BucketCount(name=bucket.name(config.data.latent_stride), num_clips=count, batch_size=size)
        for bucket, count, size in zip(clips.buckets, clips.counts, sizes, strict=True)
    ]
    num_samples = clips.schedule.samples(config.train.steps).start
    checked = []
    for number, sample in enumerate(samples):
        location = clips.locate(sample)
        source = data.sources[location.source]
        files = () if loaded is None else tuple(_write(batch, number, loaded, config, out / FOLDER))
        features = source[location.index]
        checked.append(CheckedClip(folder=source.folder, key=features.key, text=features.text, files=files))
    return TrainingCheck(
        sources=[(source.folder, len(source)) for source in data.sources],
        buckets=buckets,
        misfits=[text for number in range(len(data.sources)) if (text := clips.describe_misfits(number))],
        epochs=num_samples / sum(clips.counts),
        task=batch.spec.task,
        clips=checked,
        plan=plan,
    )


def _write(batch: Batch, number: int, codecs: ModelCodecs, config: TrainConfig, folder: Path) -> Iterator[Path]:
    """Writes a clip of a batch, as the codecs decode it, and yields the files."""
    base, settings = config.model.timebase, {"task": batch.spec.task, "clip": number}
    waveform = _decode_audio(batch.mel[number], codecs)
    if batch.latents is None:
        path = folder / f"clip-{number:02d}.wav"
        write_wav(path, waveform, base.sample_rate_hz)
    else:
        path = folder / f"clip-{number:02d}.mp4"
        frames = _decode_video(batch.latents[number], codecs)
        if batch.face_mask is not None and not bool(batch.face_mask[number].isnan().any()):
            frames = np.concatenate([frames, _masked(frames, batch.face_mask[number], batch.latents.shape[3:])], axis=2)
        write_clip(path, frames, base.fps, waveform, base.sample_rate_hz, settings)
    yield path
    if batch.reference_audio is not None:
        path = folder / f"clip-{number:02d}-voice.wav"
        write_wav(path, _decode_audio(batch.reference_audio[number], codecs), base.sample_rate_hz)
        yield path


@torch.no_grad()
def _decode_audio(normalised: Float[Tensor, "l mel"], codecs: ModelCodecs) -> Float32[np.ndarray, " samples"]:
    vocoder: Any = GriffinLimVocoder() if codecs.vocoder is None else as_vocoder(codecs.vocoder)
    return vocoder.decode(mel.denormalise(normalised[None]).to(codecs.vae.device))[0].float().cpu().numpy()


@torch.no_grad()
def _decode_video(latents: Float[Tensor, "c f h w"], codecs: ModelCodecs) -> UInt8[np.ndarray, "F H W 3"]:
    decoded = VideoCodec(codecs.vae).decode_frames(latents[None].to(codecs.vae.device))
    return torch.cat([to_frames(pixels)[0].cpu() for pixels in decoded]).numpy()


def _masked(
    frames: UInt8[np.ndarray, "F H W 3"], mask: Float[Tensor, "f n"], grid: Sequence[int]
) -> UInt8[np.ndarray, "F H W 3"]:
    """Returns the frames, dark where the face mask of their latent frame is 0."""
    rows, columns = grid
    patch = int((rows * columns / mask.shape[1]) ** 0.5)
    cells = mask.reshape(len(mask), rows // patch, columns // patch).numpy()
    num_frames, height, width = frames.shape[:3]
    # The first latent frame is one frame, each later one several.
    stride = -(-(num_frames - 1) // max(len(mask) - 1, 1))
    latent_of_frame = [0, *(1 + number // stride for number in range(num_frames - 1))]
    side = height // cells.shape[1]
    large = repeat(cells[latent_of_frame], "f h w -> f (h a) (w b) 1", a=side, b=width // cells.shape[2])
    return (frames * (_OUTSIDE_FACE + (1 - _OUTSIDE_FACE) * large)).astype(np.uint8)
