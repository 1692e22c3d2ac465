"""Declares the sizes of the joint transformer. The defaults are the paper's model [paper 4.1, release]."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from uniavgen.config import Config, LayerCount, NonNegative, Positive, Width
from uniavgen.errors import ConfigError
from uniavgen.models.interaction.config import InteractionConfig
from uniavgen.timebase import Timebase


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Config):
    """Sizes the video branch; the defaults are Wan2.2-TI2V-5B. [paper 3.2]"""

    num_heads: Width = 24
    head_dim: Width = 128
    ffn_width: Width = 14_336
    latent_channels: Width = 48
    patch: tuple[Width, Width, Width] = (1, 2, 2)
    """Latent frames, rows and columns of one token."""
    caption_width: Width = 4096
    caption_tokens: Width = 512
    """Captions are padded with zeros to this many tokens, which attention does see. [release]"""
    time_frequencies: Width = 256
    norm_eps: Positive = 1e-6

    def __post_init__(self) -> None:
        _check_head(self.head_dim)
        if self.patch[0] != 1:
            raise ConfigError(f"a token holds one latent frame, so patch begins with 1, got {self.patch}")

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class SpeechTextConfig(Config):
    """Sizes the ConvNeXtV2 encoder of the text to be spoken. [release]"""

    num_symbols: Width = 2545
    """Symbols of the vocabulary; id 0 is the filler, so ids go from 1 to this number."""
    width: Width = 512
    num_layers: LayerCount = 4
    expansion: Width = 2
    initial_symbol_duration: Positive | None = None
    """Duration of a symbol in audio tokens before anything is learned. If set, the encoder has a duration predictor and
    speech cross-attention uses symbol times as rotary positions; fresh weights attend by position (`initialise`).
    [ours] None: positions are symbol indices. [release]"""
    leading_silence: NonNegative = 0.0
    """Audio tokens of silence before the first symbol, where its time is not given. Used with a duration predictor."""
    renamed_keys: ClassVar[Mapping[str, str]] = {"pace": "initial_symbol_duration", "onset": "leading_silence"}


@dataclass(frozen=True, kw_only=True)
class AudioConfig(Config):
    """Sizes the audio branch; the defaults are Wan2.1-1.3B's, on mel frames. [paper 3.2]"""

    num_heads: Width = 12
    head_dim: Width = 128
    ffn_width: Width = 8960
    mel_bins: Width = 80
    speech: SpeechTextConfig = field(default_factory=SpeechTextConfig)
    time_frequencies: Width = 256
    norm_eps: Positive = 1e-6

    def __post_init__(self) -> None:
        _check_head(self.head_dim)

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """Sizes the joint transformer."""

    num_layers: LayerCount = 30
    video: VideoConfig = field(default_factory=VideoConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    interaction: InteractionConfig = field(default_factory=InteractionConfig)
    timebase: Timebase = field(default_factory=Timebase)

    def __post_init__(self) -> None:
        self.interaction.layer_list(self.num_layers)


def _check_head(head_dim: int) -> None:
    if head_dim < 6 or head_dim % 2:
        raise ConfigError(
            f"head_dim must be even and at least 6 (rotary angles for time, height, width), got {head_dim}"
        )
