"""The joint transformer: two Wan-like branches and the interactions that tie them. [paper 3]

Video tokens are 2 x 2 latent patches with 3-D rotary positions; audio tokens are mel frames with 1-D positions. Each
branch reads its own text. After chosen blocks video hears a window of audio (a2v) and audio sees a blend of latent
frames (v2a), both where the face is. A gate that is closed is not computed.

Letters: b batch, f latent frames, l audio tokens (both with reference in front), d width, n tokens a frame, k times.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.loaders.single_file_model import FromOriginalModelMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.batch import CLOSED, OPEN, AVPair, Gate, Prediction, Stream, TextInputs
from uniavgen.config import dump, parse
from uniavgen.errors import ConfigError
from uniavgen.models.audio_branch import AudioStem
from uniavgen.models.block import BranchBlock, BranchContext, Text, UniAVGenBlock
from uniavgen.models.config import TransformerConfig
from uniavgen.models.initialise import init_weights
from uniavgen.models.interaction.interpolation import plan_blend
from uniavgen.models.interaction.layer import BranchMemory, Hearing, InteractionContext, Record, Seeing, VideoTime
from uniavgen.models.interaction.windows import ClipGrid, plan_windows
from uniavgen.models.modulation import time_rows
from uniavgen.models.rotary import Rotary, line_rotary, timed_rotary, video_rotary
from uniavgen.models.speech_text import spoken_at
from uniavgen.models.video_branch import VideoStem


@dataclass(frozen=True, kw_only=True)
class TextContext:
    """Both texts as the blocks read them; made once per clip by `encode_text`."""

    caption: Text
    speech: Text


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """One branch in one forward pass."""

    hidden: Float[Tensor, "b s d"]
    context: BranchContext
    time_embedding: Float[Tensor, "b k d"]
    clip_time_rows: Tensor | None

    def video_time(self, samples: slice) -> VideoTime:
        """Flow time of leading samples for the face mask; the rows of leading samples count from 0 as before."""
        rows = None if self.clip_time_rows is None else self.clip_time_rows[samples]
        return VideoTime(embedding=self.time_embedding[samples], rows=rows)


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """Everything one forward pass runs on; a branch that is not run is None."""

    video: _Branch | None
    audio: _Branch | None
    exchange: InteractionContext
    memory: BranchMemory | None


class Sharing(Protocol):
    """How several processes share the picture of a forward pass (`models.sequence_parallel`)."""

    def split(self, run: ForwardPass) -> ForwardPass:
        """The pass with this process's share of every latent frame."""
        ...

    def join(self, video: Float[Tensor, "b s d"] | None, records: dict[int, Record]) -> Float[Tensor, "b s d"] | None:
        """All tokens again, and whole face masks in the records."""
        ...


class UniAVGenTransformer(
    ModelMixin, ConfigMixin, PeftAdapterMixin, FromOriginalModelMixin, CacheMixin, AttentionMixin
):
    """Velocity of video and audio, given their noisy states, two texts and who may talk to whom.

    Built from settings with `from_settings`; saved and loaded with diffusers' `save_pretrained`, `from_pretrained`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["UniAVGenBlock"]
    _repeated_blocks: ClassVar[list[str]] = ["UniAVGenBlock"]
    _keep_in_fp32_modules: ClassVar[list[str]] = [
        "time_embedder",
        "time_proj",
        "scale_shift_table",
        "norm1",
        "norm2",
        "norm3",
        "face_mask",
    ]
    _skip_layerwise_casting_patterns: ClassVar[list[str]] = [
        "patch_embedding",
        "mel_embedder",
        "condition_embedder",
        "speech_encoder",
        "speech_proj",
        "face_mask",
        "norm",
        "proj_out",
        r"v2a\.to_[kv]",  # Their biases are read outside of their `forward`.
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
        self.sharing: Sharing | None = None
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

    def encode_text(self, text: TextInputs, keep: Collection[Literal["video", "audio"]] = ()) -> TextContext:
        """Project the caption and encode the speech: once per clip, since neither depends on the flow time.

        keep: branches whose blocks project their keys and values here, and not in every pass. That is for sampling
            with weights that stay where they are: it reads the blocks outside of their `forward`.
        """
        symbols, device = text.speech.shape[1], text.speech.device
        whole = bool((text.speech_length == symbols).all())
        mask = None if whole else (torch.arange(symbols, device=device) < text.speech_length[:, None])[:, None, None]
        caption = Text(hidden=self.video_stem.read_caption(text.caption), rotary=None, mask=None)
        hidden, pace = self.audio_stem.read_speech(text.speech, text.speech_length)
        speech = Text(hidden=hidden, rotary=self._speech_rotary(symbols, pace, text), mask=mask, pace=pace)
        return TextContext(
            caption=_kept(caption, (block.video for block in self.blocks)) if "video" in keep else caption,
            speech=_kept(speech, (block.audio for block in self.blocks)) if "audio" in keep else speech,
        )

    def _speech_rotary(self, symbols: int, pace: Float[Tensor, "b p"] | None, text: TextInputs) -> Rotary:
        """Where symbols stand among audio tokens. How they are paced is learned by its own loss, not through here."""
        audio = self.settings.audio
        if pace is None:
            return line_rotary(symbols, audio.head_dim, text.speech.device)
        return timed_rotary(spoken_at(pace.detach(), text.times, audio.speech.onset), audio.head_dim)

    def forward(
        self,
        video: Stream | None,
        audio: Stream | None,
        text: TextInputs | TextContext,
        gate: Gate = OPEN,
        skip_layers: tuple[int, ...] = (),
        memory: BranchMemory | None = None,
        face_masks: bool = False,
        num_interacting: int | None = None,
    ) -> Prediction:
        """Velocity of the clip (without reference parts) in float32, and the face masks that were computed.

        video, audio: reference part, then the clip; a branch that is None is neither run nor talked to, and its
            velocity is 0.0.
        text: from `encode_text` where several passes share it.
        gate: a direction that is closed is not computed.
        skip_layers: blocks left out of both branches, interaction included.
        memory: the remembered branch is not run; what the other one reads of it is taken from there, and its velocity
            is zeros.
        face_masks: make masks even where no open direction uses them.
        num_interacting: leading samples of the batch that interact, None for all; for the others every gate is closed,
            and no face mask is made of them. A memory holds as many samples.
        """
        text = text if isinstance(text, TextContext) else self.encode_text(text)
        run = self._lay_out(video, audio, text, gate, memory, face_masks, num_interacting=num_interacting)
        if memory is not None and memory.skip_layers != tuple(skip_layers):
            raise ConfigError(f"the memory was made without layers {memory.skip_layers}, not {tuple(skip_layers)}")
        video_tokens, audio_tokens, records = self._run_blocks(run, skip_layers)
        velocity = AVPair(
            video=0.0 if video is None else self._video_velocity(video, run.video, video_tokens),
            audio=0.0 if audio is None else self._audio_velocity(audio, run.audio, audio_tokens),
        )
        return Prediction(
            velocity=velocity,
            face_masks=_stacked(record.face_mask for record in records.values()),
            pace=text.speech.pace,
        )

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
        run = self._lay_out(video, audio, text, CLOSED, keeps=True)
        _, _, records = self._run_blocks(run, skip_layers)
        branch = "audio" if video is None else "video"
        return BranchMemory(branch=branch, records=records, skip_layers=tuple(skip_layers))

    def _run_blocks(
        self, run: ForwardPass, skip_layers: tuple[int, ...]
    ) -> tuple[Tensor | None, Tensor | None, dict[int, Record]]:
        """Tokens of both branches, and what every block left behind."""
        checkpoint = (
            self._gradient_checkpointing_func if torch.is_grad_enabled() and self.gradient_checkpointing else None
        )
        run = run if self.sharing is None else self.sharing.split(run)
        video, video_context = (None, None) if run.video is None else (run.video.hidden, run.video.context)
        audio, audio_context = (None, None) if run.audio is None else (run.audio.hidden, run.audio.context)
        records: dict[int, Record] = {}
        for block in self.blocks:
            if block.layer in skip_layers:
                continue
            exchange = run.exchange.of_block(None if run.memory is None else run.memory.records.get(block.layer))
            contexts = (None if c is None else c.of_block(block.layer) for c in (video_context, audio_context))
            inputs = (video, audio, *contexts, exchange)
            video, audio = block(*inputs) if checkpoint is None else checkpoint(block, *inputs)
            records[block.layer] = exchange.record
        video = video if self.sharing is None else self.sharing.join(video, records)
        return video, audio, records

    def _lay_out(
        self,
        video: Stream | None,
        audio: Stream | None,
        text: TextContext,
        gate: Gate,
        memory: BranchMemory | None = None,
        masks_wanted: bool = False,
        keeps: bool = False,
        num_interacting: int | None = None,
    ) -> ForwardPass:
        remembered = None if memory is None else memory.branch
        if (remembered == "video" and gate.a2v) or (remembered == "audio" and gate.v2a):
            raise ConfigError(f"nothing may write to the remembered {remembered}, so its gate must be closed")
        seen = None if video is None or remembered == "video" else self._video_branch(video, text)
        heard = None if audio is None or remembered == "audio" else self._audio_branch(audio, text)
        a2v, v2a = (None, None)
        if video is not None and audio is not None:
            a2v, v2a = self._plans(video, audio, gate, slice(num_interacting))
        exchange = InteractionContext(
            a2v=a2v,
            v2a=v2a,
            tokens_per_frame=0 if video is None else math.prod(self._token_grid(video)),
            reference_frames=0 if video is None else video.num_reference,
            reference_tokens=0 if audio is None else audio.num_reference,
            video_time=None if seen is None else seen.video_time(slice(num_interacting)),
            keeps=keeps,
            masks_wanted=masks_wanted,
            num_interacting=num_interacting,
        )
        return ForwardPass(video=seen, audio=heard, exchange=exchange, memory=memory)

    def _plans(self, video: Stream, audio: Stream, gate: Gate, samples: slice) -> tuple[Hearing | None, Seeing | None]:
        """Who attends to whom, and which of the samples do."""
        settings, base, device = self.settings, self.settings.timebase, video.values.device
        height, width = self._token_grid(video)
        grid = ClipGrid(
            frames=video.values.shape[2] - video.num_reference,
            height=height,
            width=width,
            tokens=audio.values.shape[1] - audio.num_reference,
        )
        a2v, v2a = None, None
        if gate.a2v:
            windows = plan_windows(settings.interaction.a2v, grid, settings.video.head_dim, base, device)
            a2v = Hearing(plan=windows, receives=video.receives[samples])
        if gate.v2a:
            blend = plan_blend(settings.interaction.v2a, grid, settings.audio.head_dim, base, device)
            v2a = Seeing(plan=blend, receives=audio.receives[samples])
        return a2v, v2a

    def _token_grid(self, video: Stream) -> tuple[int, int]:
        _, p, q = self.settings.video.patch
        return video.values.shape[3] // p, video.values.shape[4] // q

    def _video_branch(self, video: Stream, text: TextContext) -> _Branch:
        embedding, modulation = self.video_stem.condition_embedder(video.times.values)
        rows = time_rows(video.times)
        grid = (video.values.shape[2], *self._token_grid(video))
        context = BranchContext(
            modulation=modulation,
            time_rows=rows,
            rotary=video_rotary(*grid, self.settings.video.head_dim, video.values.device),
            text=text.caption,
        )
        return _Branch(
            hidden=self.video_stem.embed(video.values),
            context=context,
            time_embedding=embedding,
            clip_time_rows=None if rows is None else rows[:, video.num_reference :],
        )

    def _audio_branch(self, audio: Stream, text: TextContext) -> _Branch:
        embedding, modulation = self.audio_stem.condition_embedder(audio.times.values)
        rows = time_rows(audio.times)
        context = BranchContext(
            modulation=modulation,
            time_rows=rows,
            rotary=line_rotary(audio.values.shape[1], self.settings.audio.head_dim, audio.values.device),
            text=text.speech,
        )
        return _Branch(
            hidden=self.audio_stem.embed(audio.values),
            context=context,
            time_embedding=embedding,
            clip_time_rows=None if rows is None else rows[:, audio.num_reference :],
        )

    def _video_velocity(self, video: Stream, seen: _Branch | None, tokens: Tensor | None) -> Float[Tensor, "b c f h w"]:
        if seen is None or tokens is None:
            return torch.zeros_like(video.values[:, :, video.num_reference :], dtype=torch.float32)
        height, width = self._token_grid(video)
        frames = video.values.shape[2] - video.num_reference
        tokens = tokens[:, video.num_reference * height * width :]
        return self.video_stem.head(tokens, seen.time_embedding, seen.clip_time_rows, frames, height)

    def _audio_velocity(self, audio: Stream, heard: _Branch | None, tokens: Tensor | None) -> Float[Tensor, "b l mel"]:
        if heard is None or tokens is None:
            return torch.zeros_like(audio.values[:, audio.num_reference :], dtype=torch.float32)
        return self.audio_stem.head(tokens[:, audio.num_reference :], heard.time_embedding, heard.clip_time_rows)


def _kept(text: Text, blocks: Iterable[BranchBlock]) -> Text:
    return replace(text, kept=tuple(block.project(text) for block in blocks))


def _stacked(recorded: Iterable[Float[Tensor, "b ..."] | None]) -> Float[Tensor, "b layers ..."] | None:
    """What blocks recorded, in their order; None if none did."""
    there = [value for value in recorded if value is not None]
    return torch.stack(there, dim=1) if there else None
