"""Sizes of the joint transformer. The defaults are the paper's model [paper 4.1, release]."""

from dataclasses import dataclass, field

from uniavgen.config import Config
from uniavgen.errors import ConfigError
from uniavgen.models.interaction.config import InteractionConfig
from uniavgen.timebase import Timebase


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Config):
    """The video branch: Wan2.2-TI2V-5B. [paper 3.2]"""

    num_heads: int = 24
    head_dim: int = 128
    ffn_width: int = 14_336
    latent_channels: int = 48
    patch: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns of one token."""
    caption_width: int = 4096
    caption_tokens: int = 512
    """Captions are padded with zeros to this many tokens, which attention does see. [release]"""
    time_frequencies: int = 256
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _check_head(self.head_dim)
        if self.patch[0] != 1:
            raise ConfigError(f"a token holds one latent frame, so patch begins with 1, got {self.patch}")

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class SpeechTextConfig(Config):
    """The ConvNeXtV2 encoder of the text to be spoken. [release]"""

    num_symbols: int = 2545
    """Symbols of the vocabulary; id 0 is the filler, so ids go from 1 to this number."""
    width: int = 512
    num_layers: int = 4
    expansion: int = 2
    pace: float | None = None
    """Audio tokens a symbol takes before anything is learned. With a pace, text attention's rotary positions are where
    symbols are spoken (`TextInputs.times`), which the encoder learns to foretell, and fresh weights begin by reading
    the symbol that is due (`initialise`) [ours]. None counts symbols [release]."""
    onset: float = 0.0
    """With a pace: audio token at which the first symbol is expected, after the silence before speech."""

    def __post_init__(self) -> None:
        if (self.pace is not None and self.pace <= 0) or self.onset < 0:
            raise ConfigError(f"speech needs a pace > 0 and an onset >= 0 audio tokens, got {self.pace}, {self.onset}")


@dataclass(frozen=True, kw_only=True)
class AudioConfig(Config):
    """The audio branch: the template of Wan2.1-1.3B on mel frames. [paper 3.2]"""

    num_heads: int = 12
    head_dim: int = 128
    ffn_width: int = 8960
    mel_bins: int = 80
    speech: SpeechTextConfig = field(default_factory=SpeechTextConfig)
    time_frequencies: int = 256
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _check_head(self.head_dim)

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """The joint transformer."""

    num_layers: int = 30
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
