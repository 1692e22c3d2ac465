"""Builds what the benchmarks run on: a transformer with random weights and the inputs of one clip, of any size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from uniavgen.batch import AVPair, TextInputs
from uniavgen.config import load
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.models.config import TransformerConfig
from uniavgen.models.diffusers_compat import is_kept_in_float32
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions
from uniavgen.tasks.given_lengths import given_lengths, half_of_clip
from uniavgen.tasks.table import TASKS, ReferenceAudio, Task
from uniavgen.timebase import ClipTiming

SPATIAL_STRIDE = 16
"""Pixels per latent cell. [release]"""
REFERENCE_TOKENS = 230
"""Two seconds of a voice and 0.3 s of silence. [release's demo]"""
SPEECH_SYMBOLS, NULL_SYMBOLS = 75, 10
"""A sentence of five seconds; the empty speech. [ours; release]"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Width and height of a clip in pixels."""

    width: int
    height: int

    @classmethod
    def of(cls, text: str) -> "Size":
        """Parses `WxH`, both multiples of 32. Exits for anything else."""
        width, _, height = text.partition("x")
        if not (width.isdigit() and height.isdigit()) or int(width) % 32 or int(height) % 32:
            raise SystemExit(f"a size is WIDTHxHEIGHT in multiples of 32, such as 736x736, got '{text}'")
        return cls(width=int(width), height=int(height))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def transformer(
    preset: str,
    device: torch.device,
    dtype: torch.dtype,
    kind: type[UniAVGenTransformer] = UniAVGenTransformer,
    overrides: Sequence[str] = (),
) -> UniAVGenTransformer:
    """Returns a preset's transformer with random weights in `dtype`; parameters that diffusers keeps in float32 stay
    so."""
    with torch.device(device):
        model = kind.from_settings(load(TransformerConfig, [f"{preset}/model"], overrides)).eval()
    for name, parameter in model.named_parameters():
        # Fresh output projections are zero, and a product with zeros may be quicker or draw less power.
        if device.type != "meta" and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
        if not is_kept_in_float32(kind, name):
            parameter.data = parameter.data.to(dtype)
    return model.requires_grad_(False)


def clip_velocity(model: UniAVGenTransformer, task: Task, size: Size, timing: ClipTiming, **options) -> ClipVelocity:
    """Returns the velocity function of a clip with random inputs; options are those of ClipVelocity."""
    device, video, audio = model.device, model.settings.video, model.settings.audio
    spec = TASKS[task]

    def latents(count: int) -> torch.Tensor:
        shape = (1, video.latent_channels, count, size.height // SPATIAL_STRIDE, size.width // SPATIAL_STRIDE)
        return torch.randn(shape, device=device)

    given = given_lengths(spec, timing, prefix_frames=half_of_clip(timing))
    with_voice = spec.reference_audio is ReferenceAudio.NEEDED
    clean = ClipConditions(
        reference_image=latents(1),
        given_video=latents(given.latent_frames),
        given_audio=torch.randn(1, given.audio_tokens, audio.mel_bins, device=device) if given.audio_tokens else None,
        reference_audio=torch.randn(1, REFERENCE_TOKENS, audio.mel_bins, device=device) if with_voice else None,
    )
    texts = {True: _text(model, SPEECH_SYMBOLS), False: _text(model, NULL_SYMBOLS)}
    return ClipVelocity(transformer=model, task=task, clean=clean, texts=texts, **options)


def noise(model: UniAVGenTransformer, size: Size, timing: ClipTiming) -> AVPair:
    """Returns the state at flow time 1, which is noise."""
    latent = (timing.num_latent_frames, size.height // SPATIAL_STRIDE, size.width // SPATIAL_STRIDE)
    settings, device = model.settings, model.device
    return AVPair(
        video=torch.randn(1, settings.video.latent_channels, *latent, device=device),
        audio=torch.randn(1, timing.num_audio_tokens, settings.audio.mel_bins, device=device),
    )


def _text(model: UniAVGenTransformer, symbols: int) -> TextInputs:
    video, device = model.settings.video, model.device
    return TextInputs(
        caption=torch.randn(1, video.caption_tokens, video.caption_width, device=device),
        speech=torch.ones(1, symbols, dtype=torch.long, device=device),
        speech_length=torch.tensor([symbols]),
    )
