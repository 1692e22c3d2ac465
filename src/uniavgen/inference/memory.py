"""Predicts how much memory of a device a clip needs in each phase, and the mode that fits, before weights are read.

Weights are counted from the configs. Activations are counted by running the very code of each phase on meta tensors
(`tensor_memory`), so that the prediction changes with the code.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from uniavgen.batch import AVPair, TextInputs
from uniavgen.codecs.tiles import tiles_covering
from uniavgen.codecs.video_vae import VideoCodec, to_frames
from uniavgen.codecs.vocoder import as_vocoder
from uniavgen.errors import ConfigError
from uniavgen.flow.sampling import sample
from uniavgen.flow.schedule import sigmas
from uniavgen.flow.solver import make_solver
from uniavgen.inference.clip import Phase
from uniavgen.inference.meta_model import META, MetaModel, cast_like_diffusers
from uniavgen.inference.offload import (
    OFFLOAD_MODES,
    OffloadConfig,
    OffloadMode,
    OffloadStrategy,
    WeightStorage,
    offload_mode,
)
from uniavgen.inference.prepared_request import PreparedRequest
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.inference.tensor_memory import peak_bytes_on_meta
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.models.diffusers_compat import is_skipped_by_layerwise_casting
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions, replace_given
from uniavgen.tasks.given_lengths import given_lengths, half_of_clip, reference_silence_tokens
from uniavgen.tasks.table import TASKS, ModalityRole, ReferenceAudio, Task
from uniavgen.timebase import ClipTiming

GIB = 2**30
"""The unit in which the memory of graphics cards is sold."""
RESERVE = 3 * GIB // 4
"""Bytes that a CUDA context and its libraries take beside tensors. [ours, not measured]"""
WEIGHTS_SLACK, ACTIVATIONS_SLACK = 0.02, 0.1
"""Shares that fragmentation takes beside weights, and scratch memory of kernels beside activations.
[ours, not measured]"""
MAX_SYMBOLS_PER_S = 40
"""Symbols per second of speech for which `largest_workload` leaves room; English has at most 24 (`speech_length`)."""
TILES_PX = (None, 768, 512, 384, 256)
"""Sides of the squares that the autoencoder may work in, the best first."""
STREAMED_BLOCKS = 3
"""Blocks on the device under group offload: running, prefetched, and one not yet evicted after a skipped layer."""


PHASE_OPTIONS: dict[Phase, tuple[dict[str, Any], ...]] = {
    Phase.ENCODE_TEXT: ({},),
    Phase.ENCODE_FRAMES: tuple({"encode_tile_px": side} for side in TILES_PX),
    Phase.SAMPLE: tuple(
        {"batch_passes": batch, "text_kv_fits": room} for batch, room in product((True, False), repeat=2)
    ),
    Phase.DECODE_VIDEO: tuple({"decode_tile_px": side} for side in TILES_PX),
    Phase.DECODE_AUDIO: ({},),
}
"""Options of each phase, as fields of `OffloadConfig`: the fastest first, the one with the least memory last."""
WORKS_IN: dict[str, tuple[Phase, ...]] = {
    "text_encoder": (Phase.ENCODE_TEXT,),
    "transformer": (Phase.SAMPLE,),
    "vae": (Phase.ENCODE_FRAMES, Phase.DECODE_VIDEO),
    "vocoder": (Phase.DECODE_AUDIO,),
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Everything about a clip that its memory depends on."""

    task: Task
    height: int
    width: int
    timing: ClipTiming
    sampling: SamplingConfig
    given_frames: int
    """Pixel frames that are encoded: those of a given video, or 1 for an image."""
    voice_tokens: int
    """Audio tokens of the reference voice."""
    symbols: int
    """Symbols of the text to be spoken, the transcript of the voice included."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases of the task: what is given is not decoded."""
        spec = TASKS[self.task]
        decoded_role = {Phase.DECODE_VIDEO: spec.video, Phase.DECODE_AUDIO: spec.audio}
        return tuple(phase for phase in Phase if decoded_role.get(phase) is not ModalityRole.GIVEN)


def largest_workload(task: Task, height: int, width: int, timing: ClipTiming, sampling: SamplingConfig) -> Workload:
    """Returns the workload of the clip of this task and size that needs the most memory."""
    spec, base = TASKS[task], timing.base
    given = given_lengths(spec, timing, prefix_frames=half_of_clip(timing))
    has_voice = spec.reference_audio is ReferenceAudio.NEEDED
    return Workload(
        task=task,
        height=height,
        width=width,
        timing=timing,
        sampling=sampling,
        given_frames=base.frames_in(given.latent_frames),
        voice_tokens=timing.num_audio_tokens + reference_silence_tokens(base) if has_voice else 0,
        symbols=int(timing.duration_s * MAX_SYMBOLS_PER_S) * (2 if has_voice else 1),
    )


def workload_of(prepared: PreparedRequest) -> Workload:
    """Returns the workload of a prepared request."""
    inputs, request = prepared.inputs, prepared.request
    return Workload(
        task=prepared.task,
        height=inputs.frames.shape[1],
        width=inputs.frames.shape[2],
        timing=inputs.timing,
        sampling=prepared.sampling,
        given_frames=len(inputs.frames),
        voice_tokens=0 if inputs.voice is None else inputs.timing.base.tokens(len(inputs.voice)),
        symbols=len(request.speech) + len(request.voice_text) + 1,
    )


@dataclass(frozen=True, kw_only=True)
class PhaseMemory:
    """Bytes on the device in one phase."""

    phase: Phase
    resident: dict[str, int]
    """Bytes of weights on the device, by component."""
    activations: int

    @property
    def peak(self) -> int:
        """Peak bytes that PyTorch's allocator hands out (`torch.cuda.max_memory_allocated`)."""
        return self.weights + self.activations

    @property
    def weights(self) -> int:
        """Bytes of all weights on the device."""
        return sum(self.resident.values())

    @property
    def required(self) -> float:
        """Bytes that the device must have: (1 + 0.02) weights + (1 + 0.1) activations + RESERVE."""
        return self.weights * (1 + WEIGHTS_SLACK) + self.activations * (1 + ACTIVATIONS_SLACK) + RESERVE


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """An offload config with the memory that it needs."""

    offload: OffloadConfig
    phases: tuple[PhaseMemory, ...]
    host_bytes: int
    """Bytes of the weights that wait in the computer's memory."""

    @property
    def peak(self) -> PhaseMemory:
        """The phase that needs the most memory."""
        return max(self.phases, key=lambda phase: phase.required)


class ActivationCounter:
    """Predicts the activations of one clip of one model; every phase is counted once with each of its options."""

    def __init__(self, components: MetaModel, workload: Workload) -> None:
        self.components, self.workload = components, workload
        self._counts: dict[tuple[Any, ...], int] = {}

    def peak(self, placement: OffloadConfig, phase: Phase) -> int:
        """Returns the peak bytes of a phase, 0 for one that the task does not have."""
        if phase not in self.workload.phases:
            return 0
        run, *options = {
            Phase.ENCODE_TEXT: (self._encode_text,),
            Phase.ENCODE_FRAMES: (self._encode_frames, placement.encode_tile_px),
            Phase.SAMPLE: (self._sample, placement.batch_passes, placement.cache_text_kv),
            Phase.DECODE_VIDEO: (self._decode_video, placement.decode_tile_px),
            Phase.DECODE_AUDIO: (self._decode_audio,),
        }[phase]
        if (phase, *options) not in self._counts:
            self._counts[phase, *options] = run(*options)
        return self._counts[phase, *options]

    def _encode_text(self) -> int:
        encoder = self.components.text_encoder

        def run() -> object:
            tokens = torch.zeros(1, self.components.caption_tokens, dtype=torch.long, device="meta")
            # The caption and the empty one.
            return [encoder(tokens, torch.ones_like(tokens)).last_hidden_state for _ in range(2)]

        return peak_bytes_on_meta(run, _tensors(encoder))

    def _tile(self, side_px: int | None) -> tuple[int, int]:
        """Returns height and width in pixels of what the autoencoder works on at a time."""
        first = tiles_covering(self.workload.height, self.workload.width, side_px)[0]
        return first.rows.stop, first.columns.stop

    def _encode_frames(self, side_px: int | None) -> int:
        # From the third latent frame on, each needs the same memory.
        vae, frames = self.components.vae, min(self.workload.given_frames, self.workload.timing.base.frames_in(3))
        pixels = torch.empty(1, 3, frames, *self._tile(side_px), device="meta")
        return peak_bytes_on_meta(lambda: VideoCodec(vae).encode(pixels), [*_tensors(vae), pixels])

    def _decode_video(self, side_px: int | None) -> int:
        vae = self.components.vae
        stride, latents = vae.config["scale_factor_spatial"], min(self.workload.timing.num_latent_frames, 3)
        cells = [side // stride for side in self._tile(side_px)]

        def run() -> None:
            shape = (1, vae.config["z_dim"], latents, *cells)
            for pixels in VideoCodec(vae).decode_frames(torch.empty(shape, device="meta")):
                to_frames(pixels)

        return peak_bytes_on_meta(run, _tensors(vae))

    def _decode_audio(self) -> int:
        vocoder = self.components.vocoder
        if vocoder is None:
            return 0
        shape = (1, self.workload.timing.num_audio_tokens, self.components.transformer.settings.audio.mel_bins)
        return peak_bytes_on_meta(
            lambda: as_vocoder(vocoder).decode(torch.empty(shape, device="meta")), _tensors(vocoder)
        )

    def _sample(self, batch_passes: bool, cache_text_kv: bool) -> int:
        spec, sampling = TASKS[self.workload.task], self.workload.sampling
        # One block of each kind is enough, with the cached text keys and values of the others added; but where the
        # branch of a given modality is cached, every block adds to that cache.
        caches_branch = ModalityRole.GIVEN in (spec.video, spec.audio)
        transformer = self.components.transformer if caches_branch else _with_two_blocks(self.components.transformer)
        plan = sampling.plan(self.workload.task)
        passes = set(plan.passes(sampling.steps))
        # The fewest steps that have all of these passes, and one more, so that a step has one before it.
        steps = next(count for count in range(1, sampling.steps + 1) if set(plan.passes(count)) == passes)
        times = sigmas(min(steps + 1, sampling.steps), sampling.schedule)

        num_left_out = len(self.components.transformer.blocks) - len(transformer.blocks)
        text_kv_left_out = 0

        def run() -> None:
            nonlocal text_kv_left_out
            clean, noise = self._clean(), self._state()
            velocity = ClipVelocity(
                transformer=transformer,
                task=self.workload.task,
                clean=clean,
                texts={has_text: self._texts() for has_text in (True, False)},
                reference_time=sampling.reference_time,
                batch_passes=batch_passes,
                cache_text_kv=cache_text_kv,
            )
            state = sample(velocity, noise, times, plan, make_solver(sampling.solver, times), lambda _: None)
            replace_given(state, clean)
            text_kv_left_out = num_left_out * velocity.text_kv_bytes // len(transformer.blocks)

        return peak_bytes_on_meta(run, _tensors(transformer)) + text_kv_left_out

    def _state(self) -> AVPair[Tensor]:
        settings, timing = self.components.transformer.settings, self.workload.timing
        stride = self.components.vae.config["scale_factor_spatial"]
        grid = (timing.num_latent_frames, self.workload.height // stride, self.workload.width // stride)
        return AVPair(
            video=torch.empty(1, settings.video.latent_channels, *grid, device="meta"),
            audio=torch.empty(1, timing.num_audio_tokens, settings.audio.mel_bins, device="meta"),
        )

    def _clean(self) -> ClipConditions:
        spec, timing, state = TASKS[self.workload.task], self.workload.timing, self._state()
        frames = timing.base.latent_frames(self.workload.given_frames)
        tokens = given_lengths(spec, timing, prefix_frames=frames).audio_tokens
        voice = state.audio.new_empty(1, self.workload.voice_tokens, state.audio.shape[2])
        reference = voice if self.workload.voice_tokens else None
        # A copy, since the encoder makes only the given frames.
        return ClipConditions.from_clip(state.video[:, :, :frames].clone(), state.audio, frames, tokens, reference)

    def _texts(self) -> TextInputs:
        encoder = self.components.text_encoder
        shape = (1, self.components.caption_tokens, encoder.config.d_model)
        return TextInputs(
            caption=torch.empty(shape, dtype=next(encoder.parameters()).dtype, device="meta"),
            speech=torch.empty(1, self.workload.symbols, dtype=torch.long, device="meta"),
            speech_length=torch.tensor([self.workload.symbols]),
        )


class MemoryPlanner:
    """Predicts the memory of clips of one model, and chooses the options with which each of them fits by itself."""

    def __init__(self, components: MetaModel, *workloads: Workload) -> None:
        self.components, self.workloads = components, workloads
        self._counters = [ActivationCounter(components, workload) for workload in workloads]

    @cached_property
    def phases(self) -> list[Phase]:
        """The phases that any of the clips has, in order."""
        return [phase for phase in Phase if any(phase in workload.phases for workload in self.workloads)]

    def choose(
        self, budget: int, device: torch.device | None = None, mode: str | None = None, host: int | None = None
    ) -> MemoryPlan:
        """Returns the fastest plan, of one mode where it is named, whose phases all fit into `budget` bytes.

        host: bytes of the computer's memory for weights that are not on the device; None is unlimited.

        Raises ConfigError with the shortage and what would fit, where nothing does.
        """
        candidates = [offload_mode(mode)] if mode else [row for row in OFFLOAD_MODES.values() if row.is_automatic]
        plan = None
        for candidate in candidates:
            plan = self._fitted(candidate, budget, device)
            if plan is not None and (host is None or plan.host_bytes <= host):
                return plan
        if mode:
            instead = self.choose(budget, device, host=host).offload.mode.name
            shortage = self._shortage(candidates[-1], budget) if plan is None else _host_shortage(plan, host)
            raise ConfigError(f"{shortage}; mode {instead} would fit")
        if plan is None:
            raise ConfigError(self._shortage_and_advice(candidates[-1], budget))
        resident = max(phase.required for phase in self._smallest(OFFLOAD_MODES["resident"]))
        raise ConfigError(
            f"{_host_shortage(plan, host)}; close other programs, or use a GPU with {resident / GIB:.1f} GB, where "
            "everything stays"
        )

    def resident(self) -> MemoryPlan:
        """Returns the plan of a device whose memory is not limited: all weights, whole frames, pass by pass."""
        return self._plan(OffloadConfig())

    def _fitted(self, mode: OffloadMode, budget: int, device: torch.device | None) -> MemoryPlan | None:
        """Returns a plan with the fastest options of each phase that fit; None where a phase fits with none."""
        placement = OffloadConfig(mode=mode, device=device)
        for phase in self.phases:
            choices = (replace(placement, **options) for options in PHASE_OPTIONS[phase])
            fitting = next((choice for choice in choices if self._fits(choice, phase, budget)), None)
            if fitting is None:
                return None
            placement = fitting
        return self._plan(placement)

    def _fits(self, placement: OffloadConfig, phase: Phase, budget: int) -> bool:
        """Whether a phase fits; activations are counted only where weights alone do."""
        weights = PhaseMemory(phase=phase, resident=self._resident(placement.mode, phase), activations=0)
        return weights.required <= budget and self._phase(placement, phase).required <= budget

    def _plan(self, placement: OffloadConfig) -> MemoryPlan:
        waits = placement.mode.strategy is not OffloadStrategy.NONE
        return MemoryPlan(
            offload=placement,
            phases=tuple(self._phase(placement, phase) for phase in self.phases),
            host_bytes=sum(self._stored(placement.mode).values()) if waits else 0,
        )

    def _shortage(self, mode: OffloadMode, budget: int) -> str:
        """Returns a sentence on how much memory is missing in a mode, and in which phase."""
        largest = max(self._smallest(mode), key=lambda phase: phase.required)
        work = max(self.workloads, key=lambda clip: clip.width * clip.height * clip.timing.num_frames)
        return (
            f"{work.width}x{work.height} px and {work.timing.num_frames} frames need "
            f"{largest.required / GIB:.1f} GB to {largest.phase} in mode {mode.name}, there are {budget / GIB:.1f}"
        )

    def _shortage_and_advice(self, mode: OffloadMode, budget: int) -> str:
        """Returns a sentence on how much is missing, and the largest smaller size that would fit."""
        shortage, cell, work = self._shortage(mode, budget), self.components.pixels_of_token, self.workloads[0]
        for share in (0.75, 0.5, 0.25):
            height, width = (max(int(side * share) // cell, 1) * cell for side in (work.height, work.width))
            clips = (replace(clip, height=height, width=width) for clip in self.workloads)
            smaller = MemoryPlanner(self.components, *clips)
            if all(smaller._fits(_smallest_config(mode, phase), phase, budget) for phase in smaller.phases):
                return f"{shortage}; {width}x{height} would fit, or a device with more memory"
        return f"{shortage}; no smaller picture fits either, so use a device with more memory"

    def _smallest(self, mode: OffloadMode) -> list[PhaseMemory]:
        """Returns each phase with its options of least memory."""
        return [self._phase(_smallest_config(mode, phase), phase) for phase in self.phases]

    def _phase(self, placement: OffloadConfig, phase: Phase) -> PhaseMemory:
        resident = self._resident(placement.mode, phase)
        activations = max(counter.peak(placement, phase) for counter in self._counters)
        return PhaseMemory(phase=phase, resident=resident, activations=activations)

    @cached_property
    def _bytes(self) -> dict[str, int]:
        return {name: _size(part) for name, part in self.components.networks.items()}

    def _stored(self, mode: OffloadMode) -> dict[str, int]:
        """Returns the bytes of every component in the precision in which a mode stores it."""
        return {**self._bytes, "transformer": self._transformer_bytes(mode.weights)}

    def _transformer_bytes(self, weights: WeightStorage) -> int:
        return self._bytes["transformer"] - sum(
            _storage_savings(block, weights) for block in self.components.transformer.blocks
        )

    def _resident(self, mode: OffloadMode, phase: Phase) -> dict[str, int]:
        """Returns the bytes of weights on the device in a phase, by component."""
        stored = self._stored(mode)
        working = {name: size for name, size in stored.items() if phase in WORKS_IN[name]}
        match mode.strategy:
            case OffloadStrategy.NONE:
                return stored
            case OffloadStrategy.MODEL_OFFLOAD:
                return working
            case OffloadStrategy.GROUP_OFFLOAD:
                return {**working, **self._streamed(mode, phase)}

    def _streamed(self, mode: OffloadMode, phase: Phase) -> dict[str, int]:
        """Returns the bytes on the device of the components whose blocks are streamed."""
        transformer, encoder = self.components.transformer, self.components.text_encoder.encoder
        stems = _size(transformer.video_stem) + _size(transformer.audio_stem)
        if phase is Phase.ENCODE_TEXT:
            blocks = sorted((_size(block) for block in encoder.block), reverse=True)
            rest = self._bytes["text_encoder"] - sum(blocks)
            return {"transformer": stems, "text_encoder": rest + sum(blocks[:STREAMED_BLOCKS])}
        if phase is not Phase.SAMPLE:
            return {"transformer": stems}
        blocks = sorted(
            (_size(block) - _storage_savings(block, mode.weights) for block in transformer.blocks), reverse=True
        )
        # A matrix that is stored with one byte per weight is also held in working precision while it is used.
        dequantized = 0
        if mode.weights is not WeightStorage.AS_LOADED:
            dequantized = max(
                layer.weight.nbytes for layer in transformer.blocks.modules() if isinstance(layer, nn.Linear)
            )
        return {"transformer": stems + sum(blocks[:STREAMED_BLOCKS]) + dequantized}


def _smallest_config(mode: OffloadMode, phase: Phase) -> OffloadConfig:
    return OffloadConfig(mode=mode, **PHASE_OPTIONS[phase][-1])


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in _tensors(module))


def _host_shortage(plan: MemoryPlan, host: int | None) -> str:
    """Returns a sentence on how little of the computer's memory there is for a plan."""
    return (
        f"in mode {plan.offload.mode.name} {plan.host_bytes / GIB:.1f} GB of weights wait in this computer's memory, "
        f"of which {(host or 0) / GIB:.1f} GB are free"
    )


def _storage_savings(block: nn.Module, weights: WeightStorage) -> int:
    """Returns the bytes that are saved by storing a block's matrices with one byte per weight."""
    if weights is WeightStorage.AS_LOADED:
        return 0
    linear = [(name, layer) for name, layer in block.named_modules() if isinstance(layer, nn.Linear)]
    if weights is WeightStorage.INT8:
        # One byte per weight, and for each row a scale in working precision.
        return sum(layer.weight.nbytes - layer.weight.numel() - layer.weight[:, 0].nbytes for _, layer in linear)
    stored = [layer for name, layer in linear if not is_skipped_by_layerwise_casting(UniAVGenTransformer, name)]
    return sum(tensor.nbytes - tensor.numel() for layer in stored for tensor in layer.parameters())


def _with_two_blocks(transformer: UniAVGenTransformer) -> UniAVGenTransformer:
    """Returns the same transformer with two blocks, of which the second interacts if any does."""
    settings = transformer.settings
    interacts = settings.interaction.layer_list(settings.num_layers)
    layers = replace(settings.interaction, layers=(1,) if interacts else ())
    with META:
        shallow = UniAVGenTransformer.from_settings(replace(settings, num_layers=2, interaction=layers))
    cast_like_diffusers(shallow, transformer.blocks[0].video.attn1.to_q.weight.dtype)
    return shallow
