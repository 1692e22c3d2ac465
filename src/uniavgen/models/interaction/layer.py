"""One interaction: two cross attentions that read the same features and write both branches. [paper 3.3, 3.4]

a2v works at the video branch's width, v2a at the audio branch's: always at the asker's. Queries and keys are RMS
normalised over the full width; inputs have no norm, updates no gate, and output projections start at zero. [release]

Letters: b batch, f latent frames, n video tokens a frame, l audio tokens, dv da widths.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.models.config import AudioConfig, TransformerConfig, VideoConfig
from uniavgen.models.interaction.face_mask import FaceMaskHead
from uniavgen.models.interaction.interpolation import FrameBlend, attend_blend, attend_everything, following_frame
from uniavgen.models.interaction.windows import AudioWindows, attend_windows


@dataclass(frozen=True)
class Reading:
    """What the other branch reads of one branch at one interaction: projected keys and values."""

    key: Float[Tensor, "b ... width"]
    value: Float[Tensor, "b ... width"]


@dataclass
class Record:
    """What one block leaves behind, beside its updates."""

    face_mask: Float[Tensor, "b f n"] | None = None
    reading: Reading | None = None


@dataclass(frozen=True, kw_only=True)
class BranchMemory:
    """A branch whose tokens are all given, run once: what the other branch reads of it, by block index."""

    branch: Literal["video", "audio"]
    records: dict[int, Record]
    skip_layers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """An open a2v gate: who hears what, and which latent frames take the update."""

    plan: AudioWindows
    receives: Float[Tensor, "b f"]


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """An open v2a gate: who sees what, and which audio tokens take the update."""

    plan: FrameBlend
    receives: Float[Tensor, "b l"]


@dataclass(frozen=True, kw_only=True)
class VideoTime:
    """Flow time of the video branch as the face mask takes it (`modulation.spread`)."""

    embedding: Float[Tensor, "b k dv"]
    rows: Int[Tensor, "b f"] | None


@dataclass(frozen=True, kw_only=True)
class InteractionContext:
    """What an interaction works on. A direction that is None is closed and not computed.

    All but `remembered` and `record` is shared by the interactions of a forward pass. No field tells which block it
    is, and no block knows it: code compiled for one serves them all.
    """

    a2v: Hearing | None
    v2a: Seeing | None
    tokens_per_frame: int
    reference_frames: int
    reference_tokens: int
    video_time: VideoTime | None
    """None where the video branch is not run."""
    keeps: bool
    """Whether readings are recorded (`remember`)."""
    masks_wanted: bool
    """Whether face masks are made even where no open direction needs them."""
    num_interacting: int | None
    """Leading samples of the batch that take part; None is all of them. The others are as if every gate were closed."""
    remembered: Record | None = None
    """Of this block, where one branch is remembered and not run."""
    record: Record = field(default_factory=Record)
    """Filled by this block."""

    def of_block(self, remembered: Record | None) -> "InteractionContext":
        """The same for one block, with an empty record."""
        return replace(self, remembered=remembered, record=Record())

    @property
    def idle(self) -> bool:
        """Nothing to do: every interaction of this pass is skipped."""
        return self.a2v is None and self.v2a is None and not self.keeps and not self.masks_wanted


class CrossModalAttention(nn.Module):
    """Projections of one direction."""

    def __init__(self, asker: VideoConfig | AudioConfig, answerer_width: int) -> None:
        super().__init__()
        self.heads, self.eps = asker.num_heads, asker.norm_eps
        self.to_q = nn.Linear(asker.width, asker.width)
        self.to_k = nn.Linear(answerer_width, asker.width)
        self.to_v = nn.Linear(answerer_width, asker.width)
        self.to_out = nn.Linear(asker.width, asker.width)
        self.norm_q = nn.RMSNorm(asker.width, eps=asker.norm_eps)
        self.norm_k = nn.RMSNorm(asker.width, eps=asker.norm_eps)

    def query(self, hidden: Float[Tensor, "*b s d"]) -> Float[Tensor, "*b s heads head_dim"]:
        return self.norm_q(self.to_q(hidden)).unflatten(-1, (self.heads, -1))

    def read(self, hidden: Float[Tensor, "*b s d"]) -> Reading:
        """Of the answering branch; keys are not yet normalised."""
        return Reading(self.to_k(hidden), self.to_v(hidden))


class Interaction(nn.Module):
    """Audio-to-video and video-to-audio interaction after (or inside) one block."""

    def __init__(self, settings: TransformerConfig) -> None:
        super().__init__()
        self.inner_residual = settings.interaction.inner_residual
        self.a2v = CrossModalAttention(settings.video, settings.audio.width)
        self.v2a = CrossModalAttention(settings.audio, settings.video.width)
        masked = settings.interaction.face_modulation != "none"
        self.face_mask = FaceMaskHead(settings.video.width, settings.video.norm_eps) if masked else None

    def forward(
        self,
        video: Float[Tensor, "b s_video dv"] | None,
        audio: Float[Tensor, "b s_audio da"] | None,
        context: InteractionContext,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Both branches after the exchange; a branch that is not run (None) stays None.

        Both directions read the features from before either update. Reference parts neither send nor receive.
        """
        if context.num_interacting is None:
            return self._exchange(video, audio, context)
        n = context.num_interacting
        ours = (None if hidden is None else hidden[:n] for hidden in (video, audio))
        updated = self._exchange(*ours, context)
        pairs = zip(updated, (video, audio), strict=True)
        video, audio = (None if new is None or old is None else torch.cat([new, old[n:]]) for new, old in pairs)
        return video, audio

    def _exchange(
        self,
        video: Float[Tensor, "b s_video dv"] | None,
        audio: Float[Tensor, "b s_audio da"] | None,
        context: InteractionContext,
    ) -> tuple[Tensor | None, Tensor | None]:
        picture = None if video is None else _frames(video, context)
        sound = None if audio is None else audio[:, context.reference_tokens :]
        mask = self._mask(picture, context)
        seen, heard = self._seen(picture, mask, context), self._heard(sound, context)
        if context.a2v is not None and video is not None and picture is not None and heard is not None:
            update = self._video_update(picture, heard, mask, context.a2v.plan)
            update = update * context.a2v.receives[:, :, None, None].to(update)
            video = _added(video, rearrange(update, "b f n d -> b (f n) d"))
        if context.v2a is not None and audio is not None and sound is not None and seen is not None:
            update = self._audio_update(sound, seen, context.v2a.plan)
            audio = _added(audio, update * context.v2a.receives[:, :, None].to(update))
        return video, audio

    def _mask(self, picture: Tensor | None, context: InteractionContext) -> Float[Tensor, "b f n"] | None:
        if self.face_mask is None:
            return None
        if picture is not None and context.video_time is not None:
            mask = self.face_mask(picture, context.video_time.embedding, context.video_time.rows)
        else:
            mask = None if context.remembered is None else context.remembered.face_mask
        context.record.face_mask = mask
        return mask

    def _seen(self, picture: Tensor | None, mask: Tensor | None, context: InteractionContext) -> Reading | None:
        """What audio reads of the picture: latent frames weighed by the face mask. [release]"""
        if picture is None:
            return None if context.remembered is None else context.remembered.reading
        if context.v2a is None and not context.keeps:
            return None
        seen = self.v2a.read(picture if mask is None else picture * mask[..., None].to(picture))
        if context.keeps:
            context.record.reading = seen
        return seen

    def _heard(self, sound: Tensor | None, context: InteractionContext) -> Reading | None:
        """What video reads of the sound."""
        if sound is None:
            return None if context.remembered is None else context.remembered.reading
        if context.a2v is None and not context.keeps:
            return None
        heard = self.a2v.read(sound)
        if context.keeps:
            context.record.reading = heard
        return heard

    def _video_update(
        self,
        picture: Float[Tensor, "b f n dv"],
        heard: Reading,
        mask: Float[Tensor, "b f n"] | None,
        plan: AudioWindows,
    ) -> Float[Tensor, "b f n dv"]:
        key = self.a2v.norm_k(heard.key).unflatten(-1, (self.a2v.heads, -1))
        value = heard.value.unflatten(-1, (self.a2v.heads, -1))
        out = attend_windows(self.a2v.query(picture), key, value, plan).flatten(-2)
        out = out + picture if self.inner_residual else out
        # The mask weighs what enters the output projection, so its bias is not masked. [release; paper eq. (9)]
        return self.a2v.to_out(out if mask is None else out * mask[..., None].to(out))

    def _audio_update(self, sound: Float[Tensor, "b l da"], seen: Reading, plan: FrameBlend) -> Float[Tensor, "b l da"]:
        query = self.v2a.query(sound)
        if plan.slots is None:
            out = attend_everything(query, seen.key, seen.value, self.v2a.norm_k, plan)
        else:
            key, value = seen.key, seen.value
            if plan.slots.share is not None:
                key = following_frame(key, self.v2a.to_k.bias, plan.doubles_tail)
                value = following_frame(value, self.v2a.to_v.bias, plan.doubles_tail)
            out = attend_blend(query, key, value, self.v2a.norm_k.weight, self.v2a.eps, plan.slots, plan.key)
        out = out.flatten(-2)
        return self.v2a.to_out(out + sound if self.inner_residual else out)


def _frames(video: Float[Tensor, "b s d"], context: InteractionContext) -> Float[Tensor, "b f n d"]:
    """Latent frames of the clip, without the reference."""
    frames = rearrange(video, "b (f n) d -> b f n d", n=context.tokens_per_frame)
    return frames[:, context.reference_frames :]


def _added(hidden: Float[Tensor, "b s d"], update: Float[Tensor, "b s_clip d"]) -> Float[Tensor, "b s d"]:
    """Update the clip; the reference stands in front of it."""
    reference = hidden.shape[1] - update.shape[1]
    if reference == 0:
        return hidden + update
    return torch.cat([hidden[:, :reference], hidden[:, reference:] + update], dim=1)
