"""The joint transformer: two Wan-like branches and the interactions that tie them. [paper 3]

Video tokens are 2 x 2 latent patches with 3-D rotary positions; audio tokens are mel frames with 1-D positions. Each
branch reads its own text. After chosen blocks video hears a window of audio (a2v) and audio sees a blend of latent
frames (v2a), both where the face is. A gate that is closed is not computed.

Letters: b batch, f latent frames, l audio tokens (both with reference in front), d width, n tokens a frame, k times.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import FromOriginalModelMixin, PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.cache_utils import CacheMixin
from jaxtyping import Bool, Float
from torch import Tensor, nn

from uniavgen.batch import CLOSED, OPEN, AVPair, Gate, Prediction, Stream, TextInputs
from uniavgen.config import dump, parse
from uniavgen.errors import ConfigError
from uniavgen.models.audio_branch import AudioStem
from uniavgen.models.block import BranchContext, UniAVGenBlock
from uniavgen.models.config import TransformerConfig
from uniavgen.models.initialise import init_weights
from uniavgen.models.interaction.interpolation import FrameBlend, plan_blend
from uniavgen.models.interaction.layer import BranchMemory, InteractionContext, Record
from uniavgen.models.interaction.windows import AudioWindows, ClipGrid, plan_windows
from uniavgen.models.modulation import time_rows
from uniavgen.models.rotary import line_rotary, video_rotary
from uniavgen.models.video_branch import VideoStem


@dataclass(frozen=True, kw_only=True)
class TextContext:
    """Both texts as the blocks read them; made once per clip by `encode_text`."""

    caption: Float[Tensor, "b m dv"]
    speech: Float[Tensor, "b p da"]
    speech_mask: Bool[Tensor, "b 1 1 p"] | None
    """None where all texts of the batch fill their length."""


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """One branch in one forward pass."""

    hidden: Float[Tensor, "b s d"]
    context: BranchContext
    time_embedding: Float[Tensor, "b k d"]
    clip_time_rows: Tensor | None


@dataclass(frozen=True, kw_only=True)
class _Plans:
    """Who attends to whom in each direction; None where it is closed."""

    windows: AudioWindows | None
    blend: FrameBlend | None


class UniAVGenTransformer(
    ModelMixin, ConfigMixin, PeftAdapterMixin, FromOriginalModelMixin, CacheMixin, AttentionMixin
):
    """Velocity of video and audio, given their noisy states, two texts and who may talk to whom.

    Built from settings with `from_settings`; saved and loaded with diffusers' `save_pretrained`, `from_pretrained`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["UniAVGenBlock"]
    _repeated_blocks = ["UniAVGenBlock"]
    _keep_in_fp32_modules = [
        "time_embedder",
        "time_proj",
        "scale_shift_table",
        "norm1",
        "norm2",
        "norm3",
        "face_mask",
    ]
    _skip_layerwise_casting_patterns = [
        "patch_embedding",
        "mel_embedder",
        "condition_embedder",
        "speech_encoder",
        "speech_proj",
        "face_mask",
        "norm",
    ]

    @register_to_config
    def __init__(
        self,
        num_layers: int,
        video_config: dict[str, Any],
        audio_config: dict[str, Any],
        interaction_config: dict[str, Any],
        timebase_config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.settings = parse(
            TransformerConfig,
            {
                "num_layers": num_layers,
                "video": video_config,
                "audio": audio_config,
                "interaction": interaction_config,
                "timebase": timebase_config,
            },
            origin="transformer config",
        )
        self.video_stem = VideoStem(self.settings.video)
        self.audio_stem = AudioStem(self.settings.audio)
        self.blocks = nn.ModuleList(UniAVGenBlock(self.settings, layer) for layer in range(num_layers))
        self.gradient_checkpointing = False
        init_weights(self)

    @classmethod
    def from_settings(cls, settings: TransformerConfig) -> "UniAVGenTransformer":
        """A model with fresh weights."""
        data = dump(settings)
        return cls(
            num_layers=data["num_layers"],
            video_config=data["video"],
            audio_config=data["audio"],
            interaction_config=data["interaction"],
            timebase_config=data["timebase"],
        )

    def encode_text(self, text: TextInputs) -> TextContext:
        """Project the caption and encode the speech: once per clip, since neither depends on the flow time."""
        symbols = text.speech.shape[1]
        whole = bool((text.speech_length == symbols).all())
        places = torch.arange(symbols, device=text.speech.device)
        mask = None if whole else (places < text.speech_length[:, None])[:, None, None]
        return TextContext(
            caption=self.video_stem.read_caption(text.caption),
            speech=self.audio_stem.read_speech(text.speech, text.speech_length),
            speech_mask=mask,
        )

    def forward(
        self,
        video: Stream | None,
        audio: Stream | None,
        text: TextInputs | TextContext,
        gate: Gate = OPEN,
        skip_layers: tuple[int, ...] = (),
        memory: BranchMemory | None = None,
        face_masks: bool = False,
    ) -> Prediction:
        """Velocity of the clip (without reference parts) in float32, and the face masks that were computed.

        A branch that is None is not run, and its gate must be closed; its velocity is 0.0. With `memory` the
        remembered branch is not run either: what the other one reads of it is taken from there, and its velocity is
        zeros. `skip_layers` leaves blocks out of both branches, interaction included. `face_masks` asks for masks even
        where no open direction uses them.
        """
        text = text if isinstance(text, TextContext) else self.encode_text(text)
        remembered = None if memory is None else memory.branch
        seen = None if video is None or remembered == "video" else self._video_branch(video, text)
        heard = None if audio is None or remembered == "audio" else self._audio_branch(audio, text)
        plans = self._plans(video, audio, gate, memory)
        exchange = self._exchange(video, audio, seen, plans, memory=memory, masks_wanted=face_masks)
        hidden = self._run_blocks(seen, heard, exchange, skip_layers)
        velocity = AVPair(
            video=self._video_velocity(video, seen, hidden[0]), audio=self._audio_velocity(audio, heard, hidden[1])
        )
        return Prediction(velocity=velocity, face_masks=exchange.record.stacked_masks())

    def remember(
        self,
        video: Stream | None,
        audio: Stream | None,
        text: TextInputs | TextContext,
        skip_layers: tuple[int, ...] = (),
    ) -> BranchMemory:
        """Run the one branch that is not None and keep what the other branch reads of it.

        For dubbing (video given, a2v closed) and animation (audio given, v2a closed): nothing writes to that branch
        and its times are 0, so it is the same at every step. `forward` with this memory equals the full forward
        exactly. A memory holds for one text and one `skip_layers`.
        """
        if (video is None) == (audio is None):
            raise ConfigError("one branch is remembered: give either video or audio, and None for the other")
        text = text if isinstance(text, TextContext) else self.encode_text(text)
        seen = None if video is None else self._video_branch(video, text)
        heard = None if audio is None else self._audio_branch(audio, text)
        exchange = self._exchange(video, audio, seen, _Plans(windows=None, blend=None), keeps=True)
        self._run_blocks(seen, heard, exchange, skip_layers)
        return BranchMemory(
            branch="audio" if video is None else "video",
            readings=exchange.record.readings,
            face_masks=exchange.record.face_masks,
            skip_layers=tuple(skip_layers),
        )

    def _run_blocks(
        self,
        seen: _Branch | None,
        heard: _Branch | None,
        exchange: InteractionContext,
        skip_layers: tuple[int, ...],
    ) -> tuple[Tensor | None, Tensor | None]:
        video, video_context = (None, None) if seen is None else (seen.hidden, seen.context)
        audio, audio_context = (None, None) if heard is None else (heard.hidden, heard.context)
        for block in self.blocks:
            if block.layer in skip_layers:
                continue
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                video, audio = self._gradient_checkpointing_func(
                    block, video, audio, video_context, audio_context, exchange
                )
            else:
                video, audio = block(video, audio, video_context, audio_context, exchange)
        return video, audio

    def _video_branch(self, video: Stream, text: TextContext) -> _Branch:
        settings, (*_, frames, height, width) = self.settings.video, video.values.shape
        embedding, modulation = self.video_stem.condition_embedder(video.times.values)
        rows = time_rows(video.times)
        _, p, q = settings.patch
        context = BranchContext(
            modulation=modulation,
            time_rows=rows,
            rotary=video_rotary(frames, height // p, width // q, settings.head_dim, video.values.device),
            text=text.caption,
            text_rotary=None,
            text_mask=None,
        )
        return _Branch(
            hidden=self.video_stem.embed(video.values),
            context=context,
            time_embedding=embedding,
            clip_time_rows=None if rows is None else rows[:, video.num_reference :],
        )

    def _audio_branch(self, audio: Stream, text: TextContext) -> _Branch:
        head_dim, device = self.settings.audio.head_dim, audio.values.device
        embedding, modulation = self.audio_stem.condition_embedder(audio.times.values)
        rows = time_rows(audio.times)
        rotary = line_rotary(audio.values.shape[1], head_dim, device)
        context = BranchContext(
            modulation=modulation,
            time_rows=rows,
            rotary=rotary,
            text=text.speech,
            text_rotary=(rotary, line_rotary(text.speech.shape[1], head_dim, device)),
            text_mask=text.speech_mask,
        )
        return _Branch(
            hidden=self.audio_stem.embed(audio.values),
            context=context,
            time_embedding=embedding,
            clip_time_rows=None if rows is None else rows[:, audio.num_reference :],
        )

    def _plans(self, video: Stream | None, audio: Stream | None, gate: Gate, memory: BranchMemory | None) -> _Plans:
        """Who attends to whom. A branch that is not there neither asks nor answers."""
        if video is None or audio is None or gate == CLOSED:
            return _Plans(windows=None, blend=None)
        if memory is not None and (gate.v2a if memory.branch == "audio" else gate.a2v):
            raise ConfigError(f"nothing may write to the remembered {memory.branch}, so its gate must be closed")
        settings, base = self.settings, self.settings.timebase
        grid, device = self._grid(video, audio), video.values.device
        a2v, v2a = settings.interaction.a2v, settings.interaction.v2a
        return _Plans(
            windows=plan_windows(a2v, grid, settings.video.head_dim, base, device) if gate.a2v else None,
            blend=plan_blend(v2a, grid, settings.audio.head_dim, base, device) if gate.v2a else None,
        )

    def _grid(self, video: Stream, audio: Stream) -> ClipGrid:
        _, p, q = self.settings.video.patch
        *_, frames, height, width = video.values.shape
        return ClipGrid(
            frames=frames - video.num_reference,
            height=height // p,
            width=width // q,
            tokens=audio.values.shape[1] - audio.num_reference,
        )

    def _exchange(
        self,
        video: Stream | None,
        audio: Stream | None,
        seen: _Branch | None,
        plans: _Plans,
        *,
        memory: BranchMemory | None = None,
        keeps: bool = False,
        masks_wanted: bool = False,
    ) -> InteractionContext:
        _, p, q = self.settings.video.patch
        return InteractionContext(
            windows=plans.windows,
            blend=plans.blend,
            tokens_per_frame=0 if video is None else video.values.shape[3] // p * (video.values.shape[4] // q),
            reference_frames=0 if video is None else video.num_reference,
            reference_tokens=0 if audio is None else audio.num_reference,
            video_receives=None if video is None else video.receives,
            audio_receives=None if audio is None else audio.receives,
            time_embedding=None if seen is None else seen.time_embedding,
            time_rows=None if seen is None else seen.clip_time_rows,
            memory=memory,
            keeps=keeps,
            masks_wanted=masks_wanted,
            record=Record(),
        )

    def _video_velocity(self, video: Stream | None, seen: _Branch | None, hidden: Tensor | None) -> Tensor | float:
        if video is None:
            return 0.0
        clip = video.values[:, :, video.num_reference :]
        if seen is None or hidden is None:
            return torch.zeros_like(clip, dtype=torch.float32)
        frames, height = clip.shape[2], clip.shape[3] // self.settings.video.patch[1]
        tokens = hidden[:, hidden.shape[1] * video.num_reference // video.values.shape[2] :]
        return self.video_stem.head(tokens, seen.time_embedding, seen.clip_time_rows, frames, height)

    def _audio_velocity(self, audio: Stream | None, heard: _Branch | None, hidden: Tensor | None) -> Tensor | float:
        if audio is None:
            return 0.0
        if heard is None or hidden is None:
            return torch.zeros_like(audio.values[:, audio.num_reference :], dtype=torch.float32)
        return self.audio_stem.head(hidden[:, audio.num_reference :], heard.time_embedding, heard.clip_time_rows)
