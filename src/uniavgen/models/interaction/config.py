"""Declares which blocks interact, where inside a block, and which tokens attend to which: one small class a variant.

Each ablation of the paper is one line here: Table 2 (aligner a direction), Table 3 (face modulation), Table 7 (layers),
Table 8 (position); equations (3) to (9).
"""

from dataclasses import dataclass, field
from typing import Literal

from uniavgen.config import Config, Count
from uniavgen.errors import ConfigError
from uniavgen.timebase import InterpolationRamp, Source

LayerChoice = Literal["interleaved", "all", "first_half", "last_half"]
Position = Literal["before_self_attention", "before_cross_attention", "before_ffn"]
FaceModulation = Literal["none", "unsupervised", "supervised"]


@dataclass(frozen=True, kw_only=True)
class GlobalAligner(Config):
    """Lets all tokens attend to all of the other branch: symmetric global interaction. Positions are in audio tokens.
    [paper Table 2]"""

    kind: Literal["global"] = "global"


@dataclass(frozen=True, kw_only=True)
class FrameAligner(Config):
    """Lets a latent frame and the audio tokens of its interval attend to each other: symmetric temporal interaction.
    [paper Table 2]"""

    kind: Literal["frame"] = "frame"


@dataclass(frozen=True, kw_only=True)
class WindowAligner(Config):
    """Lets a latent frame attend to its own audio tokens and those of its neighbourhood (a2v). [paper eq. (3)]"""

    kind: Literal["window"] = "window"
    side_frames: Count = 2
    """Pixel frames on either side: 2 are the paper's w = 12 audio tokens. [release]"""
    source: Source = Source.RELEASE
    """Whose window for the first latent frame (docs/faithfulness.md)."""


@dataclass(frozen=True, kw_only=True)
class InterpolationAligner(Config):
    """Lets an audio token attend to its latent frame, interpolated with the next one (v2a). [paper eq. (4)]"""

    kind: Literal["interpolation"] = "interpolation"
    ramp: InterpolationRamp = InterpolationRamp.LAST_FRAME
    """Part of a latent frame over which the weight of the next one rises. [supplement 6.2, release]"""
    source: Source = Source.RELEASE
    """Whose weights for the tokens past the last pixel frame (docs/faithfulness.md)."""

    @property
    def tail_weight_2(self) -> bool:
        """Whether the weights of tokens past the last pixel frame sum to 2, a slip of the release."""
        return self.ramp is InterpolationRamp.LAST_FRAME and self.source is Source.RELEASE


AudioToVideoAligner = GlobalAligner | FrameAligner | WindowAligner
VideoToAudioAligner = GlobalAligner | FrameAligner | InterpolationAligner


@dataclass(frozen=True, kw_only=True)
class InteractionConfig(Config):
    """Configures the interaction of the two branches."""

    layers: LayerChoice | tuple[int, ...] = "interleaved"
    """Blocks with an interaction; interleaved is 0, 2, 4, ... [release; paper Table 7]"""
    position: Position = "before_self_attention"
    """Where it acts. Before self-attention is after block i, so before block i + 1's self-attention [release]; the
    other two are inside block i. [paper Table 8]"""
    a2v: AudioToVideoAligner = field(default_factory=WindowAligner)
    v2a: VideoToAudioAligner = field(default_factory=InterpolationAligner)
    face_modulation: FaceModulation = "supervised"
    """Face masks weigh both directions; supervised and unsupervised differ in the training loss only.
    [paper eq. (7) to (9), Table 3]"""
    inner_residual: bool = False
    """Whether the output projection acts on query + attention, as equations (3) and (5) are printed, or on the
    attention alone [release]."""

    def layer_list(self, num_layers: int) -> tuple[int, ...]:
        """Returns the indices of the blocks with an interaction; raises ConfigError for one that does not exist."""
        match self.layers:
            case "interleaved":
                return tuple(range(0, num_layers, 2))
            case "all":
                return tuple(range(num_layers))
            case "first_half":
                return tuple(range(num_layers // 2))
            case "last_half":
                return tuple(range(num_layers - num_layers // 2, num_layers))
            case tuple() as layers:
                foreign = [layer for layer in layers if not 0 <= layer < num_layers]
                if foreign or len(set(layers)) != len(layers):
                    raise ConfigError(
                        f"interaction layers are different numbers from 0 to {num_layers - 1}, got {layers}"
                    )
                return tuple(sorted(layers))
