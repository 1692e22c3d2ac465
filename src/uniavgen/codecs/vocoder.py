"""Decodes raw log-mel to waveforms at 24 kHz: one interface, three vocoders.

`GriffinLimVocoder` has no weights and is the reference and fallback. `NanoVocoder` is a small ConvNeXt with an
inverse-STFT head like that of Vocos (arXiv 2306.00814), trained by this project. `BigVGANVocoder` is the model of
transformers that the authors' release uses.

Letters: b batch, l mel frames, mel bins, d width.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.codecs import mel
from uniavgen.codecs.stft import inverse_stft, stft
from uniavgen.errors import CheckpointError


@runtime_checkable
class Vocoder(Protocol):
    """Decodes the release's log-mel."""

    def decode(self, log_mel: Float[Tensor, "b l mel"]) -> Float[Tensor, "b samples"]:
        """Returns waveforms in [-1, 1] of raw (not normalised) log-mel; `samples = l * hop`."""
        ...


class GriffinLimVocoder(ModelMixin, ConfigMixin):
    """Finds phases for least-squares magnitudes by fast Griffin-Lim (Perraudin 2013). Deterministic, without weights.

    With P the projection STFT(ISTFT(.)) and |S| the magnitudes: c_n = P(|S| e^(i phi_n)),
    phi_(n+1) = angle(c_n + momentum (c_n - c_(n-1))).
    """

    @register_to_config
    def __init__(self, num_iterations: int = 32, momentum: float = 0.99) -> None:  # noqa: ARG002 - kept by ConfigMixin
        super().__init__()

    @torch.no_grad()
    def decode(self, log_mel: Float[Tensor, "b l mel"]) -> Float[Tensor, "b samples"]:
        """Returns waveforms in [-1, 1] of raw log-mel; `samples = l * hop`."""
        config = mel.MEL
        target = mel.magnitudes(log_mel.float(), config)
        # A fixed random phase: with zero phase every frame starts as the same click.
        generator = torch.Generator().manual_seed(0)
        angle = torch.rand(target.shape[1:], generator=generator).to(target) * (2 * torch.pi)
        phase = torch.polar(torch.ones_like(target), angle.expand_as(target))
        previous = torch.zeros_like(phase)
        for _ in range(self.config.num_iterations):
            waveform = inverse_stft(target * phase, config.num_fft, config.hop)
            if waveform.shape[-1] <= config.pad:
                return waveform.clamp(-1, 1)
            consistent = stft(waveform, config.num_fft, config.hop)
            accelerated = consistent + self.config.momentum * (consistent - previous)
            phase, previous = accelerated / accelerated.abs().clamp(min=1e-8), consistent
        return inverse_stft(target * phase, config.num_fft, config.hop).clamp(-1, 1)


class VocoderConvNeXtBlock(nn.Module):
    """Computes x + scale * MLP(LN(DepthwiseConv_7(x))), with one scale a channel. [ConvNeXt]"""

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        mixed = rearrange(self.depthwise(rearrange(x, "b l d -> b d l")), "b d l -> b l d")
        return x + self.scale * self.contract(F.gelu(self.expand(self.norm(mixed))))


class NanoVocoder(ModelMixin, ConfigMixin):
    """Predicts log-magnitude and phase for each mel frame and frequency, by a ConvNeXt, and inverts the STFT. [ours]"""

    @register_to_config
    def __init__(
        self,
        num_mel: int = 80,
        width: int = 192,
        hidden: int = 576,
        num_layers: int = 6,
        num_fft: int = 960,
        hop: int = 240,  # noqa: ARG002 - kept by ConfigMixin
    ) -> None:
        super().__init__()
        self.embed = nn.Conv1d(num_mel, width, kernel_size=7, padding=3)
        self.norm_in = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(VocoderConvNeXtBlock(width, hidden, 1 / num_layers) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_fft + 2)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, log_mel: Float[Tensor, "b l mel"]) -> Float[Tensor, "b samples"]:
        """Returns waveforms of raw log-mel, not clipped and so differentiable; `samples = l * hop`."""
        x = rearrange(mel.normalise(log_mel), "b l mel -> b mel l")
        x = self.norm_in(rearrange(self.embed(x), "b d l -> b l d"))
        for block in self.blocks:
            x = block(x)
        log_magnitude, phase = rearrange(self.head(self.norm_out(x)).float(), "b l (two bins) -> two b bins l", two=2)
        spectrum = torch.polar(log_magnitude.clamp(max=6.0).exp(), phase)
        return inverse_stft(spectrum, self.config.num_fft, self.config.hop)

    @torch.no_grad()
    def decode(self, log_mel: Float[Tensor, "b l mel"]) -> Float[Tensor, "b samples"]:
        """Returns waveforms in [-1, 1] of raw log-mel; `samples = l * hop`."""
        return self(log_mel.to(self.dtype)).clamp(-1, 1)


def vocoder_class(config: Mapping[str, Any]) -> type[nn.Module]:
    """Returns the class of a saved vocoder, by its `config.json`. Raises CheckpointError for any other config."""
    # Only diffusers writes the class under this name.
    if "_class_name" not in config:
        from transformers import Qwen2_5OmniToken2WavBigVGANModel

        return Qwen2_5OmniToken2WavBigVGANModel
    for cls in (NanoVocoder, GriffinLimVocoder):
        if config["_class_name"] == cls.__name__:
            return cls
    raise CheckpointError(f"the vocoder is a {config['_class_name']}, expected a NanoVocoder or BigVGAN; copy it again")


class BigVGANVocoder:
    """Decodes with transformers' Token2Wav BigVGAN. [release]"""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @torch.no_grad()
    def decode(self, log_mel: Float[Tensor, "b l mel"]) -> Float[Tensor, "b samples"]:
        """Returns waveforms in [-1, 1] of raw log-mel; `samples = l * hop`."""
        # The model squeezes its output's axes and moves it to the CPU, so clips go through one by one.
        inputs = rearrange(log_mel.to(self.model.dtype), "b l mel -> b mel l")
        clips = [self.model(clip[None]).reshape(-1) for clip in inputs]
        return torch.stack(clips).to(log_mel)


def as_vocoder(component: Any) -> Vocoder:
    """Returns the vocoder for a pipeline's stored component. Raises CheckpointError for anything else."""
    if isinstance(component, Vocoder):
        return component
    from transformers import Qwen2_5OmniToken2WavBigVGANModel

    if isinstance(component, Qwen2_5OmniToken2WavBigVGANModel):
        return BigVGANVocoder(component)
    raise CheckpointError(f"a vocoder turns log-mel into sound, got a {type(component).__name__}, which cannot")
