"""Counts what a training step takes, bytes and operations, by running its code on fake tensors, which have no values.

Blocks are alike, so few are run: a first one, and one of each kind. What each of them adds, forward and backward, is
then laid out over all blocks of the model.
"""

import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from uniavgen.batch import TextInputs
from uniavgen.data.buckets import Bucket
from uniavgen.data.dataset import Batch
from uniavgen.models.cached_tables import no_tables_kept
from uniavgen.models.diffusers_compat import TorchDispatchMode, fake_tensor_mode, fused_attention_on_cpu
from uniavgen.models.kernels import AttentionKernel, use_attention
from uniavgen.models.tensor_memory import TensorMemoryCounter, plain_tensors
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.given_lengths import given_lengths, half_of_clip, reference_silence_tokens
from uniavgen.tasks.mixture import StepSpec, reference_tokens
from uniavgen.tasks.table import TASKS, ReferenceAudio, Task
from uniavgen.training.config import TrainConfig
from uniavgen.training.lora import QUANTIZED_BASES
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.sharding import FLOAT32_MODULES, empty_model
from uniavgen.training.stage import PRECISIONS, precision_context, select_trained
from uniavgen.training.step import step_losses

SYMBOLS_PER_S = 15
"""Symbols per second of English speech. [ours]"""
DeviceType = Literal["cuda", "cpu"]
"""Decides about the kernel of self-attention."""


class Segment(NamedTuple):
    """What a part of a step does to memory: a block forward or backward, or what lies between blocks."""

    change: int
    """Bytes that are held after it less those before."""
    gradients: int
    """Bytes of `change` that are gradients of parameters."""
    peak: int
    """The most that is held in it, less what was held before."""
    flops: int


@dataclass(frozen=True)
class StepCount:
    """Bytes and operations of the forward and backward pass of one process."""

    peak: int
    """The most bytes of activations and gradients that are held at a time."""
    gradients: int
    """Bytes of gradients that are held at that time."""
    flops: int
    """Executed operations, those of recomputed blocks twice."""

    @classmethod
    def of(cls, segments: Sequence[Segment], held: int = 0) -> "StepCount":
        """Lays segments out one after the other. held: bytes of gradients that are there from the beginning."""
        live = gradients = held
        largest = (held, held)
        for segment in segments:
            largest = max(largest, (live + segment.peak, gradients))
            live, gradients = live + segment.change, gradients + segment.gradients
        return cls(*largest, flops=sum(segment.flops for segment in segments))


class StepCounter:
    """Counts the steps of a stage on one process of a run."""

    def __init__(
        self,
        config: TrainConfig,
        device_type: DeviceType = "cuda",
        shard_degree: int = 1,
        held_gradients: int = 0,
    ) -> None:
        """Raises ConfigError where the settings do not fit the model.

        shard_degree: processes that share one copy of the model; above 1, weights are gathered in the precision of the
            run, and gradients shared out as soon as they are complete. held_gradients: bytes of those that earlier
            clips of the same step have left, to which these clips add theirs.
        """
        self.config, self.device_type = config, device_type
        self.shard_degree, self.held_gradients = shard_degree, held_gradients
        self._model = empty_model(config.model, {})
        select_trained(self._model, _unquantized(config))
        self._model.checkpoint_activations(config.train.activation_checkpointing)
        kinds = [self._kind(block) for block in self._model.blocks]
        # The first block has a place of its own, since it may have nothing before it that is trained.
        chosen = [0, *(kinds.index(kind, 1) for kind in dict.fromkeys(kinds[1:]))]
        self._places = [0, *(1 + [kinds[layer] for layer in chosen[1:]].index(kind) for kind in kinds[1:])]
        self._model.blocks = nn.ModuleList(self._model.blocks[layer] for layer in chosen)
        self._fake = fake_tensor_mode()
        with self._fake:
            self._place_model()

    def count(self, bucket: Bucket, num_clips: int, task: Task) -> StepCount:
        """Returns what a forward and backward pass of clips of one bucket and task takes."""
        # Tables without values must not be kept for real steps, nor the other way round.
        with no_tables_kept(), self._fake, warnings.catch_warnings():
            # Norms keep float32 weights under autocast; torch warns once that this has no fused kernel.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            batch = self.batch(bucket, num_clips, task)
            before, forward, between, backward, after = self._run(batch)
        segments = [
            before,
            *(forward[place] for place in self._places),
            between,
            *(backward[place] for place in reversed(self._places)),
            after,
        ]
        return StepCount.of(segments, self.held_gradients)

    def _kind(self, block: Any) -> tuple[Any, ...]:
        """Returns what blocks that take the same have in common."""
        every = self.config.train.activation_checkpointing
        trained = tuple(name for name, parameter in block.named_parameters() if parameter.requires_grad)
        return block.interaction is None, bool(every) and block.layer % every == 0, trained

    def _place_model(self) -> None:
        model, dtype = self._model, PRECISIONS[self.config.train.precision]
        model.to_empty(device="cpu")
        if self.config.lora is not None:
            # The adapter is there already: what is below it is quantised, which takes tensors with a device.
            select_trained(model, self.config)
        if self.shard_degree > 1 and dtype is not None:
            exact = {
                parameter
                for module in model.modules()
                if isinstance(module, FLOAT32_MODULES)
                for parameter in module.parameters()
            }
            for parameter in model.parameters():
                if parameter not in exact:
                    parameter.data = parameter.data.to(dtype)
        if self.device_type == "cpu":
            use_attention(model, AttentionKernel.MATH)
        model.train()

    def batch(self, bucket: Bucket, num_clips: int, task: Task) -> Batch:
        """Returns a batch of the longest clips of a task."""
        model, timing, spec = self.config.model, bucket.timing, TASKS[task]
        mixture = self.config.stage.tasks
        has_reference = spec.reference_audio is ReferenceAudio.NEEDED or (
            spec.reference_audio is ReferenceAudio.ALLOWED and mixture.allowed_reference > 0
        )
        spoken = reference_tokens(mixture, timing, 1.0) if has_reference else 0
        given = given_lengths(spec, timing, half_of_clip(timing))
        symbols = int(timing.duration_s * SYMBOLS_PER_S)
        silence = reference_silence_tokens(timing.base) if has_reference else 0
        _, patch_rows, patch_columns = model.video.patch
        video_tokens = (bucket.rows // patch_rows) * (bucket.columns // patch_columns)

        def text() -> TextInputs:
            return TextInputs(
                caption=torch.empty(num_clips, model.video.caption_tokens, model.video.caption_width),
                speech=torch.empty(num_clips, symbols, dtype=torch.long),
                speech_length=torch.empty(num_clips, dtype=torch.long),
                symbol_timestamps=torch.empty(num_clips, symbols),
            )

        with_video = self.config.stage.branches == "both"
        latents = (num_clips, model.video.latent_channels, timing.num_latent_frames, bucket.rows, bucket.columns)
        audio = (num_clips, timing.num_audio_tokens, model.audio.mel_bins)
        return Batch(
            spec=StepSpec(
                task=task,
                given_frames=given.latent_frames,
                given_tokens=given.audio_tokens,
                reference_tokens=spoken,
            ),
            mel=torch.empty(audio),
            text=text(),
            uncond_text=text(),
            latents=torch.empty(latents) if with_video else None,
            face_mask=torch.empty(num_clips, timing.num_latent_frames, video_tokens) if with_video else None,
            reference_audio=torch.empty(num_clips, spoken + silence, audio[2]) if has_reference else None,
        )

    def _run(self, batch: Batch) -> tuple[Segment, list[Segment], Segment, list[Segment], Segment]:
        """Returns the segments before the blocks, of their forward passes, between, of their backward passes, and
        after."""
        model, config = self._model, self.config
        counter, flops = (
            TensorMemoryCounter("cpu", ignoring=plain_tensors(model)),
            _FlopCounter(),
        )
        borders = _Borders(counter, flops, not self.held_gradients, self.shard_degree)
        samples = SampleRandomness(seed=0, samples=range(batch.mel.shape[0]))
        gc.collect()
        with (
            _FakeValues(),
            # Stopping early raises an error, whose traceback keeps tensors alive.
            set_checkpoint_early_stop(False),
            borders.watching(model),
            counter,
            flops,
        ):
            weights = config.stage.losses.at(0, config.train.steps)
            with precision_context(config.train.precision, "cpu"):
                losses = step_losses(model, batch, samples, config.stage, weights=weights).means()
            losses.total(config.stage.losses, 0, config.train.steps).backward()
            blocks = len(model.blocks)
            segments = borders.segments(2 * blocks + 3)
        backward = segments[blocks + 2 : 2 * blocks + 2]
        return segments[0], segments[1 : blocks + 1], segments[blocks + 1], backward[::-1], segments[-1]


def _unquantized(config: TrainConfig) -> TrainConfig:
    if config.lora is None or config.lora.base not in QUANTIZED_BASES:
        return config
    return replace(config, lora=replace(config.lora, base="bf16"))


class _FlopCounter(TorchDispatchMode):
    """Counts operations by torch's formulas.

    torch's own FlopCounterMode also follows modules, by hooks that keep what is recomputed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._attention, self._attention_backward = fused_attention_on_cpu()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = operation(*args, **kwargs)
        kind = operation.overloadpacket
        if kind is self._attention:
            self.total += sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
        elif kind is self._attention_backward:
            self.total += sdpa_backward_flop_count(*(tensor.shape for tensor in args[:4]))
        elif kind in flop_registry:
            self.total += flop_registry[kind](*args, **kwargs, out_val=outputs)
        return outputs


class _FakeValues(TorchFunctionMode):
    """Answers for values, which fake tensors lack: conditions hold, and `nonzero` finds all places."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is Tensor.nonzero:
            return torch.empty(args[0].numel(), args[0].ndim, dtype=torch.long)
        if function is Tensor.__bool__:
            return True
        return function(*args, **(kwargs or {}))


class _Borders:
    """Notes bytes and operations at the borders of blocks, forward and backward."""

    def __init__(self, counter: TensorMemoryCounter, flops: _FlopCounter, counts_gradients: bool, degree: int) -> None:
        self._counter, self._flops = counter, flops
        self._counts_gradients, self._degree = counts_gradients, degree
        self._gradients = 0
        self._noted = [(0, 0, 0, 0)]
        """Bytes, bytes of gradients and operations at each border, and the peak since the one before."""

    def note(self, *_: Any) -> None:
        """Notes a border."""
        counter = self._counter
        self._noted.append((counter.live_bytes, self._gradients, self._flops.total, counter.peak_bytes))
        counter.peak_bytes = counter.live_bytes

    def segments(self, expected: int) -> list[Segment]:
        """Returns what lies between borders; the last one, which a model with a frozen beginning lacks, is empty."""
        while len(self._noted) <= expected:
            self.note()
        return [
            Segment(
                change=after[0] - before[0],
                gradients=after[1] - before[1],
                peak=after[3] - before[0],
                flops=after[2] - before[2],
            )
            for before, after in pairwise(self._noted)
        ]

    @contextmanager
    def watching(self, model: UniAVGenTransformer) -> Iterator[None]:
        """Notes the borders of the model's blocks while the context is open."""
        blocks, started = list(model.blocks), set()

        def begins(block: nn.Module, inputs: tuple[Any, ...]) -> None:
            # A block that is recomputed runs forward a second time, in its backward pass.
            if block not in started:
                self.note()
                if block is blocks[0]:
                    self._note_gradient(inputs)

        def ends(block: nn.Module, _: Any, outputs: tuple[Any, ...]) -> None:
            if block not in started:
                started.add(block)
                self._note_gradient(outputs)
                if block is blocks[-1]:
                    self.note()

        handles = [block.register_forward_pre_hook(begins) for block in blocks]
        handles += [block.register_forward_hook(ends) for block in blocks]
        trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
        handles += [parameter.register_post_accumulate_grad_hook(self._keep) for parameter in trained]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note_gradient(self, hidden: Sequence[Any]) -> None:
        """Notes a border when the first gradient of the hidden states arrives."""
        noted: list[Tensor] = []

        def arrives(gradient: Tensor) -> None:
            if not noted:
                noted.append(gradient.new_empty(0))
                self.note()

        for tensor in hidden[:2]:
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(arrives)

    def _keep(self, parameter: Tensor) -> None:
        """Keeps the share of this process of a gradient that is complete."""
        parameter.grad = None
        if self._counts_gradients:
            size = parameter.numel() * 4 // self._degree
            self._counter.hold(size)
            self._gradients += size
