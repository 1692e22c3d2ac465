"""Predicts how much memory of a device a clip needs in each phase, and the mode that fits, before weights are read.

Weights are counted from the configs. Activations are counted by running the very code of each phase on meta tensors
(`tensor_memory`), so that the prediction changes with the code.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import nn

from uniavgen.batch import AVPair, TextInputs
from uniavgen.codecs.tiles import tiles_covering
from uniavgen.codecs.video_vae import VideoCodec, to_frames
from uniavgen.codecs.vocoder import as_vocoder
from uniavgen.errors import ConfigError
from uniavgen.flow.guidance import Pass
from uniavgen.flow.sampling import sample
from uniavgen.flow.schedule import sigmas
from uniavgen.flow.solver import make_solver
from uniavgen.inference.clip import Phase
from uniavgen.inference.meta_model import META, MetaModel
from uniavgen.inference.offload import (
    OFFLOAD_MODES,
    OffloadConfig,
    OffloadMode,
    OffloadStrategy,
    WeightStorage,
    offload_mode,
    quantize,
)
from uniavgen.inference.prepared_request import PreparedRequest
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.models.tensor_memory import peak_bytes_on_meta, plain_tensors, stored_bytes
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

    def tile(self, side_px: int | None) -> tuple[int, int]:
        """Returns height and width in pixels of what the autoencoder works on at a time."""
        first = tiles_covering(self.height, self.width, side_px)[0]
        return first.rows.stop, first.columns.stop


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


def _encode_text(model: MetaModel, _clip: Workload, _config: OffloadConfig) -> object:
    tokens = torch.zeros(1, model.caption_tokens, dtype=torch.long, device=META)
    # The caption and the empty one.
    return [model.text_encoder(tokens, torch.ones_like(tokens)).last_hidden_state for _ in range(2)]


def _encode_frames(model: MetaModel, clip: Workload, config: OffloadConfig) -> object:
    # From the third latent frame on, each needs the same memory.
    frames = min(clip.given_frames, clip.timing.base.frames_in(3))
    # Pixels lie on the CPU, so that one value stands for all.
    pixels = torch.empty((), device=META).expand(1, 3, frames, *clip.tile(config.encode_tile_px))
    return VideoCodec(model.vae).encode(pixels)


def _sample(model: MetaModel, clip: Workload, config: OffloadConfig) -> object:
    sampling, settings = clip.sampling, model.transformer.settings
    plan = sampling.plan(clip.task)
    passes = set(plan.passes(sampling.steps))
    # The fewest steps that have all of these passes, and one more, so that a step has one before it.
    steps = next(count for count in range(1, sampling.steps + 1) if set(plan.passes(count)) == passes)
    times = sigmas(min(steps + 1, sampling.steps), sampling.schedule)
    stride = model.vae.config["scale_factor_spatial"]
    grid = (clip.timing.num_latent_frames, clip.height // stride, clip.width // stride)
    noise = AVPair(
        video=torch.empty(1, settings.video.latent_channels, *grid, device=META),
        audio=torch.empty(1, clip.timing.num_audio_tokens, settings.audio.mel_bins, device=META),
    )
    clean = _clean(clip, noise)
    velocity = ClipVelocity(
        transformer=model.transformer,
        task=clip.task,
        clean=clean,
        texts={has_text: _text(model, clip) for has_text in (True, False)},
        reference_time=sampling.reference_time,
        batch_passes=config.batch_passes,
        cache_text_kv=config.cache_text_kv,
    )
    left_out = _layers_left_out(model.transformer, clip.task)

    def of_few_layers(state: AVPair, sigma: AVPair, runs: tuple[Pass, ...]) -> list[AVPair]:
        runs = tuple(replace(run, skip_layers=(*run.skip_layers, *left_out)) for run in runs)
        return velocity(state, sigma, runs)

    return replace_given(
        sample(of_few_layers, noise, times, plan, make_solver(sampling.solver, times), lambda _: None), clean
    )


def _layers_left_out(transformer: UniAVGenTransformer, task: Task) -> tuple[int, ...]:
    """Returns layers that need no counting: one of each kind is enough, since they run one after the other.

    Where the branch of a given modality is cached, every layer adds to that cache.
    """
    if ModalityRole.GIVEN in (TASKS[task].video, TASKS[task].audio):
        return ()
    kinds = {block.interaction is None: block.layer for block in transformer.blocks}
    return tuple(layer for layer in range(len(transformer.blocks)) if layer not in kinds.values())


def _clean(clip: Workload, noise: AVPair) -> ClipConditions:
    frames = clip.timing.base.latent_frames(clip.given_frames)
    tokens = given_lengths(TASKS[clip.task], clip.timing, prefix_frames=frames).audio_tokens
    voice = noise.audio.new_empty(1, clip.voice_tokens, noise.audio.shape[2]) if clip.voice_tokens else None
    # Copies, since the encoder makes only the given frames, and the noise is a tensor of its own.
    return ClipConditions.from_clip(noise.video[:, :, :frames].clone(), noise.audio.clone(), frames, tokens, voice)


def _text(model: MetaModel, clip: Workload) -> TextInputs:
    dtype, width = next(model.text_encoder.parameters()).dtype, model.text_encoder.config.d_model
    return TextInputs(
        caption=torch.empty(1, model.caption_tokens, width, dtype=dtype, device=META),
        speech=torch.empty(1, clip.symbols, dtype=torch.long, device=META),
        speech_length=torch.tensor([clip.symbols]),
    )


def _decode_video(model: MetaModel, clip: Workload, config: OffloadConfig) -> object:
    codec, latents = VideoCodec(model.vae), min(clip.timing.num_latent_frames, 3)
    cells = [side // codec.spatial_stride for side in clip.tile(config.decode_tile_px)]
    shape = (1, codec.latent_channels, latents, *cells)
    return [to_frames(pixels).shape for pixels in codec.decode_frames(torch.empty(shape, device=META))]


def _decode_audio(model: MetaModel, clip: Workload, _config: OffloadConfig) -> object:
    if model.vocoder is None:
        return None
    shape = (1, clip.timing.num_audio_tokens, model.transformer.settings.audio.mel_bins)
    return as_vocoder(model.vocoder).decode(torch.empty(shape, device=META))


class PhaseModel(NamedTuple):
    """How the memory of a phase is counted."""

    network: str
    """The component that works."""
    run: Callable[[MetaModel, Workload, OffloadConfig], object]
    """Does on meta tensors what the pipeline does."""
    options: tuple[dict[str, Any], ...] = ({},)
    """Fields of `OffloadConfig`: the fastest first, those with the least memory last."""


PHASES: dict[Phase, PhaseModel] = {
    Phase.ENCODE_TEXT: PhaseModel("text_encoder", _encode_text),
    Phase.ENCODE_FRAMES: PhaseModel("vae", _encode_frames, tuple({"encode_tile_px": side} for side in TILES_PX)),
    Phase.SAMPLE: PhaseModel(
        "transformer",
        _sample,
        tuple({"batch_passes": batch, "text_kv_fits": room} for batch, room in product((True, False), repeat=2)),
    ),
    Phase.DECODE_VIDEO: PhaseModel("vae", _decode_video, tuple({"decode_tile_px": side} for side in TILES_PX)),
    Phase.DECODE_AUDIO: PhaseModel("vocoder", _decode_audio),
}


class MemoryPlanner:
    """Predicts the memory of clips of one model, and chooses the options with which each of them fits by itself."""

    def __init__(self, components: MetaModel, *workloads: Workload) -> None:
        self.components, self.workloads = components, workloads
        # Counted once for each mode, and once for each option of a phase.
        self._stored, self._resident = cache(self._store), cache(self._count_resident)
        self._activations = cache(self._count_activations)

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
            choices = (replace(placement, **options) for options in PHASES[phase].options)
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
            host_bytes=sum(map(stored_bytes, self._stored(placement.mode.weights).values())) if waits else 0,
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
        # What counts are made of: all other settings are as by default.
        read = {name: getattr(placement, name) for name in PHASES[phase].options[0]}
        if "text_kv_fits" in read:
            read["text_kv_fits"] = placement.cache_text_kv
        counted = OffloadConfig(**read)
        return PhaseMemory(
            phase=phase,
            resident=self._resident(placement.mode, phase),
            activations=max(self._activations(phase, clip, counted) for clip in self.workloads),
        )

    def _count_activations(self, phase: Phase, clip: Workload, config: OffloadConfig) -> int:
        """Returns the peak bytes of activations, 0 where the clip's task does not have the phase."""
        if phase not in clip.phases:
            return 0
        network = self.components.networks.get(PHASES[phase].network)
        weights = () if network is None else plain_tensors(network)
        return peak_bytes_on_meta(lambda: PHASES[phase].run(self.components, clip, config), ignoring=weights)

    def _store(self, weights: WeightStorage) -> dict[str, nn.Module]:
        """Returns the components as a mode stores them."""
        networks = self.components.networks
        if weights is WeightStorage.AS_LOADED:
            return networks
        transformer = deepcopy(self.components.transformer)
        quantize(transformer, weights)
        return {**networks, "transformer": transformer}

    def _count_resident(self, mode: OffloadMode, phase: Phase) -> dict[str, int]:
        """Returns the bytes of weights on the device in a phase, by component."""
        stored = self._stored(mode.weights)
        if mode.strategy is OffloadStrategy.NONE:
            return {name: stored_bytes(network) for name, network in stored.items()}
        working = PHASES[phase].network
        resident = {working: stored_bytes(stored[working])} if working in stored else {}
        if mode.strategy is OffloadStrategy.MODEL_OFFLOAD:
            return resident
        transformer: Any = stored["transformer"]
        stems = stored_bytes(transformer.video_stem) + stored_bytes(transformer.audio_stem)
        if working == "text_encoder":
            blocks = self.components.text_encoder.encoder.block
            resident[working] -= stored_bytes(blocks) - _largest_blocks(blocks)
        elif working == "transformer":
            linear = [
                layer.weight.nbytes
                for layer in self.components.transformer.blocks.modules()
                if isinstance(layer, nn.Linear)
            ]
            # A matrix that is stored with one byte per weight is also held in working precision while it is used.
            dequantized = 0 if mode.weights is WeightStorage.AS_LOADED else max(linear)
            return {working: stems + _largest_blocks(transformer.blocks) + dequantized}
        return {"transformer": stems, **resident}


def _smallest_config(mode: OffloadMode, phase: Phase) -> OffloadConfig:
    return OffloadConfig(mode=mode, **PHASES[phase].options[-1])


def _largest_blocks(blocks: nn.ModuleList) -> int:
    """Returns the bytes of the blocks that are on the device while a network is streamed."""
    return sum(sorted(map(stored_bytes, blocks))[-STREAMED_BLOCKS:])


def _host_shortage(plan: MemoryPlan, host: int | None) -> str:
    """Returns a sentence on how little of the computer's memory there is for a plan."""
    return (
        f"in mode {plan.offload.mode.name} {plan.host_bytes / GIB:.1f} GB of weights wait in this computer's memory, "
        f"of which {(host or 0) / GIB:.1f} GB are free"
    )
