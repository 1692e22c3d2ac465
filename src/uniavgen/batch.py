"""The frozen values that travel between layers.

a2v: video asks, audio answers. v2a: audio asks, video answers. t in [0, 1], 1 is noise; sigma is the shifted t.

Letters: b batch, f latent frames (reference first), l audio tokens (reference first), s either of them, h w latent
grid, n = (h/2)(w/2) video tokens a frame, c latent channels, mel bins, k distinct times, m caption tokens, p speech
symbols.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

Value = TypeVar("Value", bound=Tensor | float)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Which direction of interaction is computed at all. A closed gate costs nothing."""

    a2v: bool = True
    v2a: bool = True

    def __and__(self, other: "Gate") -> "Gate":
        return Gate(a2v=self.a2v and other.a2v, v2a=self.v2a and other.v2a)


OPEN = Gate()
CLOSED = Gate(a2v=False, v2a=False)


@dataclass(frozen=True, kw_only=True)
class TokenTimesteps:
    """Flow time of every latent frame or audio token: the few distinct values and an index into them.

    Time embedding and modulation are computed once per distinct value, never per token.
    """

    unique: Float[Tensor, "b k"]
    """Float32 whatever the activations are. 0 is clean, 1 is noise."""
    index: Int[Tensor, "b s"]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One modality as the transformer takes it: reference part first, then the clip."""

    values: Float[Tensor, "b ..."]
    """Video latents `b c f h w` or mel `b l mel`, normalised."""
    timesteps: TokenTimesteps
    """s = f for video, s = l for audio."""
    update_mask: Float[Tensor, "b s_clip"]
    """1 where a latent frame or audio token of the clip takes the interaction's update, 0 where it stays unaffected
    (given parts [paper 3.5], samples whose interaction is dropped in training). The reference part never takes any."""
    num_reference: int
    """Leading latent frames or audio tokens that neither send nor receive interaction."""


@dataclass(frozen=True, kw_only=True)
class TextInputs:
    """What the two branches are told."""

    caption: Float[Tensor, "b m caption_width"]
    """Output of the caption encoder, zero where padded; no key mask [release]."""
    speech: Int[Tensor, "b p"]
    """Speech symbols, 0 is the filler. With reference audio its transcript stands in front [release]."""
    speech_length: Int[Tensor, " b"]
    """Symbols of each text. On the CPU whatever the device of the rest, so that nobody has to wait for the device to
    learn whether a batch is padded."""
    symbol_timestamps: Float[Tensor, "b p"] | None = None
    """Audio token, reference counted, at which each symbol is spoken; NaN where that is unknown. A model that counts
    symbols [release] ignores it; one with a duration predictor predicts what is unknown. [ours]"""


@dataclass(frozen=True, kw_only=True)
class AVPair(Generic[Value]):
    """Video and audio of the clip (no reference part): a state, a velocity, a noise or a scale, with arithmetic."""

    video: Value
    """`b c f h w`, or one number."""
    audio: Value
    """`b l mel`, or one number."""

    def __add__(self, other: "AVPair") -> "AVPair":
        return AVPair(video=self.video + other.video, audio=self.audio + other.audio)

    def __sub__(self, other: "AVPair") -> "AVPair":
        return AVPair(video=self.video - other.video, audio=self.audio - other.audio)

    def __mul__(self, scale: "AVPair | float") -> "AVPair":
        if isinstance(scale, AVPair):
            return AVPair(video=self.video * scale.video, audio=self.audio * scale.audio)
        return AVPair(video=self.video * scale, audio=self.audio * scale)

    __rmul__ = __mul__


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one forward pass of the transformer says about the clip."""

    velocity: AVPair
    """eps - x_0 [paper eq. (1), (2)]."""
    face_masks: Float[Tensor, "b layers f_clip n"] | None
    """Face-aware modulation's masks in (0, 1), one per interaction [paper eq. (8)]; None without any."""
    symbol_durations: Float[Tensor, "texts p"] | None = None
    """Audio tokens from one symbol to the next, as predicted for each text alone; None for a model that counts
    symbols."""
