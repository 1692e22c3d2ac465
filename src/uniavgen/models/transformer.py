"""Joins two Wan-like branches and the interactions between them: the transformer of UniAVGen. [paper 3]

Video tokens are 2 x 2 patches of latents with rotary positions in 3D; audio tokens are mel frames with positions in 1D.
Each branch has cross-attention to its own text. After chosen blocks video attends to windows of audio (a2v) and audio
to interpolated latent frames (v2a), both weighted by a face mask. A closed gate is not computed.

Letters: b batch, f latent frames, l audio tokens (both with the reference part in front), d width, n video tokens a
frame, k distinct times, p speech symbols.
"""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar, Literal

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
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.models.audio_branch import AudioStem
from uniavgen.models.block import BlockOutput, BranchContext, TextFeatures, UniAVGenBlock
from uniavgen.models.config import TransformerConfig
from uniavgen.models.diffusers_compat import register_block
from uniavgen.models.forward_inputs import BlockInputs, BranchInputs, TextContext, TokenSharding
from uniavgen.models.initialise import init_weights
from uniavgen.models.interaction.interpolation import plan_interpolation
from uniavgen.models.interaction.layer import A2VContext, BranchKVCache, InteractionContext, V2AContext
from uniavgen.models.interaction.windows import ClipGrid, plan_windows
from uniavgen.models.modulation import timestep_index
from uniavgen.models.rotary import Rotary, rotary_1d, rotary_3d, rotary_at_times
from uniavgen.models.speech_text import complete_symbol_times
from uniavgen.models.video_branch import VideoStem


class UniAVGenTransformer(
    ModelMixin, ConfigMixin, PeftAdapterMixin, FromOriginalModelMixin, CacheMixin, AttentionMixin
):
    """Predicts the velocity of video and audio from their noisy states, two texts and a gate: v(x_t, t) = eps - x_0.

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
        r"v2a\.to_[kv]",  # `pad_last_frame` reads their biases outside of their `forward`.
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
        self.checkpoint_every = 1
        self.sequence_parallel: TokenSharding | None = None
        init_weights(self)

    @classmethod
    def from_settings(cls, settings: TransformerConfig) -> "UniAVGenTransformer":
        """Returns a model with fresh weights (`initialise`)."""
        data = dump(settings)
        return cls(
            num_layers=data["num_layers"],
            video_config=data["video"],
            audio_config=data["audio"],
            interaction_config=data["interaction"],
            timebase_config=data["timebase"],
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Loads a model as diffusers does, but raises CheckpointError where the names of weights do not fit.

        diffusers only warns, and gives the parameters that are missing new random weights.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        model, info = loaded
        missing, unknown = info["missing_keys"], info["unexpected_keys"]
        if missing or unknown:
            raise CheckpointError(
                f"the weights of {pretrained_model_name_or_path} do not fit their config.json: {len(missing)} are "
                f"missing and {len(unknown)} are unknown, first {min([*missing, *unknown])}; copy the folder again, or "
                "save an adapter as an adapter"
            )
        return (model, info) if wants_info else model

    def enable_cache(self, config: Any) -> None:
        """Lets diffusers' hooks skip blocks that change little, as `config` says (`FirstBlockCacheConfig`)."""
        register_block(UniAVGenBlock)
        super().enable_cache(config)

    def checkpoint_activations(self, every: int) -> None:
        """Lets every `every`-th block keep no activations in training and compute them again; 0 for no block.

        diffusers' `enable_gradient_checkpointing` is the same for all blocks.
        """
        self.checkpoint_every = max(every, 1)
        if every:
            self.enable_gradient_checkpointing()
        else:
            self.disable_gradient_checkpointing()

    def encode_text(self, text: TextInputs, cache_kv: Collection[Literal["video", "audio"]] = ()) -> TextContext:
        """Projects the caption and encodes the speech: once per clip, since neither depends on the flow time.

        cache_kv: branches whose blocks project their keys and values here, and not in every pass. That is for sampling
            with weights that stay where they are: it uses the blocks outside of their `forward`.
        """
        symbols, device = text.speech.shape[1], text.speech.device
        length = text.speech_length.to(device, non_blocking=True)
        # `text.speech_length` lies on the CPU, so this comparison does not wait for the device.
        unpadded = bool((text.speech_length == symbols).all())
        mask = None if unpadded else (torch.arange(symbols, device=device) < length[:, None])[:, None, None]
        caption = TextFeatures(features=self.video_stem.project_caption(text.caption), rotary=None, mask=None)
        features, durations = self.audio_stem.encode_speech(text.speech, length)
        speech = TextFeatures(
            features=features,
            rotary=self._speech_rotary(symbols, durations, text),
            mask=mask,
            symbol_durations=durations,
        )
        if "video" in cache_kv:
            caption = replace(caption, cached_kv=tuple(block.video.project_text(caption) for block in self.blocks))
        if "audio" in cache_kv:
            speech = replace(speech, cached_kv=tuple(block.audio.project_text(speech) for block in self.blocks))
        return TextContext(caption=caption, speech=speech)

    def _speech_rotary(self, symbols: int, durations: Float[Tensor, "b p"] | None, text: TextInputs) -> Rotary:
        """Returns the positions of symbols: their indices [release], or audio tokens if durations are predicted [ours].

        The duration predictor learns from its own loss only, so no gradient passes through positions.
        """
        audio = self.settings.audio
        if durations is None:
            return rotary_1d(symbols, audio.head_dim, text.speech.device)
        silence = audio.speech.leading_silence
        times = complete_symbol_times(durations.detach(), text.symbol_timestamps, silence)
        return rotary_at_times(times, audio.head_dim)

    def forward(
        self,
        video: Stream | None,
        audio: Stream | None,
        text: TextInputs | TextContext,
        gate: Gate = OPEN,
        skip_layers: tuple[int, ...] = (),
        branch_cache: BranchKVCache | None = None,
        return_face_masks: bool = False,
        num_interacting: int | None = None,
    ) -> Prediction:
        """Returns the velocity of the clip (without reference parts) in float32, and the face masks that were computed.

        video, audio: reference part, then the clip; a branch that is None is not run, the other one does not interact,
            and its velocity is 0.0.
        text: from `encode_text` where several passes share it.
        gate: a direction that is closed is not computed.
        skip_layers: blocks left out of both branches, interaction included.
        branch_cache: the cached branch is not run; what the other one reads of it is taken from there, and its velocity
            is zeros.
        return_face_masks: compute masks even where no open direction uses them.
        num_interacting: leading samples of the batch that interact, None for all; for the others every gate is closed,
            and no face mask is computed for them. A cache holds as many samples.

        Raises ConfigError where the cache belongs to other `skip_layers`, or the gate would update the cached branch.
        """
        text = text if isinstance(text, TextContext) else self.encode_text(text)
        inputs = self._block_inputs(
            video, audio, text, gate, branch_cache, return_face_masks, num_interacting=num_interacting
        )
        if branch_cache is not None and branch_cache.skip_layers != tuple(skip_layers):
            skipped = branch_cache.skip_layers
            raise ConfigError(f"the branch cache was computed without layers {skipped}, not {tuple(skip_layers)}")
        video_tokens, audio_tokens, outputs = self._run_blocks(inputs, skip_layers)
        masks = [output.face_mask for output in outputs.values() if output.face_mask is not None]
        return Prediction(
            velocity=AVPair(
                video=0.0 if video is None else self._video_velocity(video, inputs.video, video_tokens),
                audio=0.0 if audio is None else self._audio_velocity(audio, inputs.audio, audio_tokens),
            ),
            face_masks=torch.stack(masks, dim=1) if masks else None,
            symbol_durations=text.speech.symbol_durations,
        )

    def precompute_branch(
        self,
        video: Stream | None,
        audio: Stream | None,
        text: TextInputs | TextContext,
        skip_layers: tuple[int, ...] = (),
    ) -> BranchKVCache:
        """Runs the one branch that is not None and returns the keys and values that the other branch reads of it.

        For dubbing (video given, a2v closed) and animation (audio given, v2a closed): nothing updates that branch and
        its times are 0, so it is the same at every step. `forward` with this cache equals the full forward exactly. A
        cache holds for one text and one `skip_layers`. Raises ConfigError unless exactly one branch is None.
        """
        if (video is None) == (audio is None):
            raise ConfigError("one branch is precomputed: give either video or audio, and None for the other")
        text = text if isinstance(text, TextContext) else self.encode_text(text)
        inputs = self._block_inputs(video, audio, text, CLOSED, cache_kv=True)
        _, _, outputs = self._run_blocks(inputs, skip_layers)
        return BranchKVCache(
            branch="audio" if video is None else "video",
            kv={layer: output.kv for layer, output in outputs.items() if output.kv is not None},
            face_masks={layer: output.face_mask for layer, output in outputs.items() if output.face_mask is not None},
            skip_layers=tuple(skip_layers),
        )

    def _run_blocks(
        self, inputs: BlockInputs, skip_layers: tuple[int, ...]
    ) -> tuple[Tensor | None, Tensor | None, dict[int, BlockOutput]]:
        """Returns the tokens of both branches, and the auxiliary outputs of every block that was run."""
        checkpoint: Any = (
            self._gradient_checkpointing_func if torch.is_grad_enabled() and self.gradient_checkpointing else None
        )
        inputs = inputs if self.sequence_parallel is None else self.sequence_parallel.shard(inputs)
        video, video_context = (None, None) if inputs.video is None else (inputs.video.hidden, inputs.video.context)
        audio, audio_context = (None, None) if inputs.audio is None else (inputs.audio.hidden, inputs.audio.context)
        auxiliary: dict[int, BlockOutput] = {}
        for block in self.blocks:
            if block.layer in skip_layers:
                continue
            interaction = inputs.interaction.for_block(block.layer, inputs.branch_cache)
            contexts = (None if c is None else c.for_block(block.layer) for c in (video_context, audio_context))
            arguments = (video, audio, *contexts, interaction)
            if checkpoint is not None and int(block.layer) % self.checkpoint_every == 0:
                output = BlockOutput(*checkpoint(block, *arguments))
            else:
                # A block that diffusers' cache skips returns its hidden states alone.
                output = BlockOutput(*block(*arguments))
            video, audio = output.video, output.audio
            auxiliary[block.layer] = output._replace(video=None, audio=None)
        if self.sequence_parallel is not None and video is not None:
            video = self.sequence_parallel.gather_tokens(video)
            auxiliary = {layer: self._gathered(output) for layer, output in auxiliary.items()}
        return video, audio, auxiliary

    def _gathered(self, output: BlockOutput) -> BlockOutput:
        if self.sequence_parallel is None or output.face_mask is None:
            return output
        return output._replace(face_mask=self.sequence_parallel.gather_face_mask(output.face_mask))

    def _block_inputs(
        self,
        video: Stream | None,
        audio: Stream | None,
        text: TextContext,
        gate: Gate,
        branch_cache: BranchKVCache | None = None,
        return_face_masks: bool = False,
        cache_kv: bool = False,
        num_interacting: int | None = None,
    ) -> BlockInputs:
        """Embeds both streams, and plans the directions of interaction that the gate leaves open."""
        cached = None if branch_cache is None else branch_cache.branch
        if (cached == "video" and gate.a2v) or (cached == "audio" and gate.v2a):
            raise ConfigError(f"nothing may update the cached {cached}, so its gate must be closed")
        video_inputs = None if video is None or cached == "video" else self._video_inputs(video, text)
        audio_inputs = None if audio is None or cached == "audio" else self._audio_inputs(audio, text)
        a2v, v2a = (None, None)
        if video is not None and audio is not None:
            a2v, v2a = self._directions(video, audio, gate, slice(num_interacting))
        interaction = InteractionContext(
            a2v=a2v,
            v2a=v2a,
            tokens_per_frame=0 if video is None else math.prod(self._token_grid(video)),
            reference_frames=0 if video is None else video.num_reference,
            reference_tokens=0 if audio is None else audio.num_reference,
            video_time=None if video_inputs is None else video_inputs.video_time(slice(num_interacting)),
            cache_kv=cache_kv,
            return_face_masks=return_face_masks,
            num_interacting=num_interacting,
        )
        return BlockInputs(video=video_inputs, audio=audio_inputs, interaction=interaction, branch_cache=branch_cache)

    def _directions(
        self, video: Stream, audio: Stream, gate: Gate, samples: slice
    ) -> tuple[A2VContext | None, V2AContext | None]:
        """Returns the plans of both directions, None where the gate is closed."""
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
            a2v = A2VContext(plan=windows, update_mask=video.update_mask[samples])
        if gate.v2a:
            plan = plan_interpolation(settings.interaction.v2a, grid, settings.audio.head_dim, base, device)
            v2a = V2AContext(plan=plan, update_mask=audio.update_mask[samples])
        return a2v, v2a

    def _token_grid(self, video: Stream) -> tuple[int, int]:
        _, p, q = self.settings.video.patch
        return video.values.shape[3] // p, video.values.shape[4] // q

    def _video_inputs(self, video: Stream, text: TextContext) -> BranchInputs:
        """Embeds latents, flow times and positions of the video."""
        embedding, modulation = self.video_stem.condition_embedder(video.timesteps.unique)
        index = timestep_index(video.timesteps)
        grid = (video.values.shape[2], *self._token_grid(video))
        context = BranchContext(
            modulation=modulation,
            timestep_index=index,
            rotary=rotary_3d(*grid, self.settings.video.head_dim, video.values.device),
            text=text.caption,
        )
        return BranchInputs(
            hidden=self.video_stem.embed(video.values),
            context=context,
            time_embedding=embedding,
            clip_timestep_index=None if index is None else index[:, video.num_reference :],
        )

    def _audio_inputs(self, audio: Stream, text: TextContext) -> BranchInputs:
        """Embeds mel frames, flow times and positions of the audio."""
        embedding, modulation = self.audio_stem.condition_embedder(audio.timesteps.unique)
        index = timestep_index(audio.timesteps)
        context = BranchContext(
            modulation=modulation,
            timestep_index=index,
            rotary=rotary_1d(audio.values.shape[1], self.settings.audio.head_dim, audio.values.device),
            text=text.speech,
        )
        return BranchInputs(
            hidden=self.audio_stem.embed(audio.values),
            context=context,
            time_embedding=embedding,
            clip_timestep_index=None if index is None else index[:, audio.num_reference :],
        )

    def _video_velocity(
        self, video: Stream, inputs: BranchInputs | None, tokens: Tensor | None
    ) -> Float[Tensor, "b c f_clip h w"]:
        """Returns the velocity of the clip, without the reference image; zeros for a cached branch."""
        if inputs is None or tokens is None:
            return torch.zeros_like(video.values[:, :, video.num_reference :], dtype=torch.float32)
        height, width = self._token_grid(video)
        frames = video.values.shape[2] - video.num_reference
        tokens = tokens[:, video.num_reference * height * width :]
        return self.video_stem.head(tokens, inputs.time_embedding, inputs.clip_timestep_index, frames, height)

    def _audio_velocity(
        self, audio: Stream, inputs: BranchInputs | None, tokens: Tensor | None
    ) -> Float[Tensor, "b l_clip mel"]:
        """Returns the velocity of the clip, without the reference audio; zeros for a cached branch."""
        if inputs is None or tokens is None:
            return torch.zeros_like(audio.values[:, audio.num_reference :], dtype=torch.float32)
        return self.audio_stem.head(tokens[:, audio.num_reference :], inputs.time_embedding, inputs.clip_timestep_index)
