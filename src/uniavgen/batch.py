"""Declares the frozen values that are passed between layers.

a2v: queries of the video attend to the audio. v2a: queries of the audio attend to the video. Flow time t lies in
[0, 1], 1 is noise; sigma is the shifted t.

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
    """Chooses which directions of interaction are computed. A closed direction costs nothing."""

    a2v: bool = True
    v2a: bool = True

    def __and__(self, other: "Gate") -> "Gate":
        return Gate(a2v=self.a2v and other.a2v, v2a=self.v2a and other.v2a)


OPEN = Gate()
CLOSED = Gate(a2v=False, v2a=False)


@dataclass(frozen=True, kw_only=True)
class TokenTimesteps:
    """Holds the flow time of every latent frame or audio token: the few distinct values and an index into them.

    Time embedding and modulation are computed once per distinct value, never per token.
    """

    unique: Float[Tensor, "b k"]
    """Float32 whatever the activations are. 0 is clean, 1 is noise."""
    index: Int[Tensor, "b s"]
    """Column of `unique` for each latent frame or audio token."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Holds one modality as the transformer takes it: the reference part, then the clip."""

    values: Float[Tensor, "b ..."]
    """Video latents `b c f h w` or mel `b l mel`, normalised."""
    timesteps: TokenTimesteps
    """s = f for video, s = l for audio."""
    update_mask: Float[Tensor, "b s_clip"]
    """1 where a latent frame or audio token of the clip is updated by interaction, 0 where it is not: given parts
    [paper 3.5] and samples whose interaction is dropped in training. The reference part is never updated."""
    num_reference: int
    """Leading latent frames or audio tokens that neither send nor receive interaction."""


@dataclass(frozen=True, kw_only=True)
class TextInputs:
    """Holds the texts that the two branches are conditioned on."""

    caption: Float[Tensor, "b m caption_width"]
    """Output of the caption encoder, zero where padded; no key mask [release]."""
    speech: Int[Tensor, "b p"]
    """Ids of speech symbols, 0 is the filler. With reference audio its transcript stands in front [release]."""
    speech_length: Int[Tensor, " b"]
    """Number of symbols of each text. It stays on the CPU, since `encode_text` branches on it: on another device that
    would wait for all work queued there."""
    symbol_timestamps: Float[Tensor, "b p"] | None = None
    """Audio token, reference counted, at which each symbol is spoken; NaN where that is unknown. A model that counts
    symbols [release] ignores it; one with a duration predictor predicts what is unknown. [ours]"""


@dataclass(frozen=True, kw_only=True)
class AVPair(Generic[Value]):
    """Pairs video and audio of the clip, without reference parts: a state, a velocity, noise or a scale.

    Arithmetic acts on both.
    """

    video: Value
    """`b c f h w`, or one number."""
    audio: Value
    """`b l mel`, or one number."""

    @classmethod
    def of(cls, value: "Value | AVPair") -> "AVPair":
        """Returns a pair as it is, and one value for both modalities as a pair."""
        return value if isinstance(value, AVPair) else cls(video=value, audio=value)

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
    """Holds the outputs of one forward pass of the transformer, for the clip without reference parts."""

    velocity: AVPair
    """eps - x_0 [paper eq. (1), (2)]."""
    face_masks: Float[Tensor, "b layers f_clip n"] | None
    """Face-aware modulation's masks in (0, 1), one per interaction [paper eq. (8)]; None without any."""
    symbol_durations: Float[Tensor, "texts p"] | None = None
    """Audio tokens from one symbol to the next, as predicted for each text alone; None for a model that counts
    symbols."""
