"""How well does `uniavgen plan` predict the memory of a clip? Predicted and measured bytes, phase by phase.

On a CUDA GPU the peak of PyTorch's allocator is measured, weights included, in every mode asked for. On a CPU, where
weights lie in the same memory as everything else, only activations are: the tensors that are given and made, and beside
them all that PyTorch's allocator hands out, which holds the scratch of the CPU's kernels too (large in its
convolutions; a GPU has other kernels). Weights are there, with no values of interest.

    python benchmarks/memory.py                                             # a small model, two minutes on a CPU
    python benchmarks/memory.py --preset cut --size 160x128 --frames 17     # the widths of base; 8 GB of host memory
    python benchmarks/memory.py --preset base --size 1280x736 --frames 81   # on a GPU; 30 GB of host memory
"""

import argparse
import gc
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2_5OmniToken2WavBigVGANModel
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniBigVGANConfig

import tables
from clips import Size
from record import circumstances, device_name, keep
from uniavgen.codecs.caption import MAX_TOKENS, word_tokenizer
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.umt5 import UMT5Encoder
from uniavgen.codecs.video_vae import VideoVaeShape, to_frames, to_pixels
from uniavgen.codecs.vocoder import NanoVocoder
from uniavgen.config import dump, load
from uniavgen.errors import ConfigError
from uniavgen.inference.clip import Phase
from uniavgen.inference.memory import MemoryPlan, MemoryPlanner, workload_of
from uniavgen.inference.meta_model import META, UMT5_XXL, WAN_VAE, MetaModel, base_meta_model
from uniavgen.inference.offload import OFFLOAD_MODES, on_device
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeAndCrop
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.config import TransformerConfig
from uniavgen.models.tensor_memory import TensorMemoryCounter
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task

CAPTION, SPEECH = "a woman speaks at a window", "It is late."


def small_parts(preset: str) -> MetaModel:
    """Builds nano's transformer, or a wider one whose memory is that of large tensors, with small encoders."""
    settings = load(TransformerConfig, ["nano/model"])
    autoencoder = VideoVaeShape(width=24, decoder_width=32)
    latent_channels = autoencoder.latent_channels
    video = replace(settings.video, latent_channels=latent_channels, caption_width=128, caption_tokens=64)
    text = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
    if preset == "small":
        video = replace(video, num_heads=8, head_dim=128, ffn_width=4096, caption_width=512, caption_tokens=256)
        wider = replace(settings.audio, num_heads=4, head_dim=128, ffn_width=2048)
        text |= {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8}
        settings = replace(settings, num_layers=4, audio=wider)
    return MetaModel(
        transformer=UniAVGenTransformer.from_settings(replace(settings, video=video)),
        vae=autoencoder.build(),
        text_encoder=UMT5Encoder(vocab_size=4096, **text),
        vocoder=NanoVocoder(width=256, hidden=768),
        caption_tokens=video.caption_tokens,
        resize_rule=ResizeAndCrop(),
        sampling=SamplingConfig(),
    )


def cut_parts() -> MetaModel:
    """Builds the base model in float32 with two blocks and two layers of umT5; activations need no more of them."""
    settings = replace(load(TransformerConfig, ["base/model"]), num_layers=2)
    text = UMT5_XXL | {"vocab_size": 4096, "num_layers": 2}
    return MetaModel(
        transformer=UniAVGenTransformer.from_settings(settings),
        vae=WAN_VAE.build(),
        text_encoder=UMT5Encoder(**text),
        vocoder=Qwen2_5OmniToken2WavBigVGANModel(Qwen2_5OmniBigVGANConfig()),
        caption_tokens=MAX_TOKENS,
        resize_rule=ResizeAndCrop(),
        sampling=SamplingConfig(),
    )


def parts_of(preset: str) -> MetaModel:
    """Returns the networks of a preset, without weights."""
    with META:
        match preset:
            case "base":
                return base_meta_model()
            case "cut":
                return cut_parts()
            case _:
                return small_parts(preset)


def filled(parts: MetaModel) -> MetaModel:
    """Returns the networks with weights, all of one value: memory does not depend on it, and random ones take minutes.

    It is not zero, since convolutions whose earlier taps are zero are run in another way (`codecs.frame_convolution`).
    """
    parts = deepcopy(parts)
    for part in parts.networks.values():
        part.to_empty(device="cpu")
        for tensor in (*part.parameters(), *part.buffers()):
            tensor.detach().fill_(0.01)
    return parts


def pipeline_of(parts: MetaModel, size: Size) -> UniAVGenPipeline:
    """Returns a pipeline for images of one size."""
    symbols = "".join(chr(0x20 + i) for i in range(parts.transformer.settings.audio.speech.num_symbols))
    pipeline = UniAVGenPipeline(
        transformer=parts.transformer,
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=word_tokenizer([CAPTION], max_tokens=parts.caption_tokens),
        speech_tokenizer=SpeechSymbols.of(symbols),
        vocoder=parts.vocoder,
        picture_config=dump(ResizeAndCrop(height=size.height, width=size.width)),
        sampling_config=dump(replace(parts.sampling, steps=2)),
    )
    for part in parts.networks.values():
        part.requires_grad_(False)
    return pipeline


def request_of(task: Task, size: Size, num_frames: int) -> Request:
    """Returns a request whose inputs are noise."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (num_frames, size.height, size.width, 3), np.uint8)
    sound = (random.standard_normal(num_frames * 1500) * 0.1).astype(np.float32)
    given: dict[Task, dict[str, Any]] = {
        Task.JOINT: {"image": frames[0]},
        Task.DUBBING: {"video": frames},
        Task.ANIMATION: {"image": frames[0], "audio": sound},
    }
    return Request(task=task, caption=CAPTION, speech=SPEECH, num_frames=num_frames, **given[task])


Peaks = dict[str, int]
"""Peak bytes, by the way of measuring."""
WHOLE = "whole clip"


def measured(pipeline: UniAVGenPipeline, request: Request, peak_of: Callable[..., Peaks]) -> dict[Phase, Peaks]:
    """Returns the peaks of each phase, run as the pipeline runs it."""
    peaks: dict[Phase, Peaks] = {}

    def phase(name: Phase, run: Callable[[], Any], *given: Any) -> Any:
        results: list[Any] = []
        peaks[name] = peak_of(lambda: results.append(run()), given)
        return results[0]

    prepared = pipeline.prepare(request)
    phase(Phase.ENCODE_TEXT, lambda: pipeline.encode_texts(prepared))
    pixels = to_pixels(torch.from_numpy(prepared.inputs.frames)[None])

    def encode() -> None:
        with on_device(pipeline.offload, vae=pipeline.vae):
            pipeline.video_codec.encode(pixels, pipeline.offload.encode_tile_px)

    phase(Phase.ENCODE_FRAMES, encode)
    conditions = pipeline.encode(prepared)
    noise = pipeline.initial_noise(conditions)
    latents = phase(
        Phase.SAMPLE,
        lambda: pipeline.sample(conditions, noise=noise).latents,
        *(conditions.clean, *conditions.texts.values(), noise),
    )

    def decode() -> None:
        with on_device(pipeline.offload, vae=pipeline.vae):
            for pixels in pipeline.video_codec.decode_frames(latents.video, tile_px=pipeline.offload.decode_tile_px):
                to_frames(pixels).cpu()

    if request.task is not Task.DUBBING:
        phase(Phase.DECODE_VIDEO, decode, latents.video)
    if request.task is not Task.ANIMATION:
        phase(Phase.DECODE_AUDIO, lambda: pipeline.decode_audio(latents.audio), latents.audio)
    return peaks


def size_of(given: Any) -> int:
    """Returns the bytes of tensors in nested dataclasses and tuples, each storage counted once."""
    storages: set[torch.UntypedStorage] = set()

    def look(value: Any) -> None:
        match value:
            case torch.Tensor():
                storages.add(value.untyped_storage())
            case tuple():
                for part in value:
                    look(part)
            case _ if is_dataclass(value):
                for field in fields(value):
                    look(getattr(value, field.name))

    look(given)
    return sum(storage.nbytes() for storage in storages)


def taken_on_cpu(run: Callable[[], Any], given: Any) -> Peaks:
    """Returns peak bytes while `run` works on `given`: of tensors, and of all that PyTorch allocates."""
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded,
        TensorMemoryCounter("cpu", ignoring=_existing_tensors()) as counter,
    ):
        run()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    inputs = size_of(given)
    return {"measured": inputs + counter.peak_bytes, "with_scratch": inputs + peak}


def taken_on_gpu(run: Callable[[], Any], _given: Any) -> Peaks:
    """Returns the peak bytes that PyTorch's allocator hands out while `run` runs, weights included."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return {"measured": torch.cuda.max_memory_allocated()}


def compared(plan: MemoryPlan, peaks: dict[Phase, Peaks], with_weights: bool) -> list[dict[str, Any]]:
    """Returns one line per phase and one for the whole clip, whose peak includes weights, measured or not."""
    lines = []
    for memory in plan.phases:
        predicted = memory.peak if with_weights else memory.activations
        lines.append({"phase": str(memory.phase), "predicted": predicted, **peaks[memory.phase]})
    unmeasured = {memory.phase: 0 if with_weights else memory.weights for memory in plan.phases}
    kinds = next(iter(peaks.values()))
    clip = {kind: max(peaks[phase][kind] + unmeasured[phase] for phase in unmeasured) for kind in kinds}
    return [*lines, {"phase": WHOLE, "predicted": max(memory.peak for memory in plan.phases), **clip}]


def _existing_tensors() -> list[torch.Tensor]:
    return [item for item in gc.get_objects() if isinstance(item, torch.Tensor) and item.device.type == "cpu"]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("nano", "small", "cut", "base"), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=Size.of, default=Size(width=448, height=320))
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--task", choices=("joint", "dubbing", "animation"), action="append")
    parser.add_argument(
        "--mode", choices=tuple(OFFLOAD_MODES), action="append", help="on a GPU; all but int8 if left out"
    )
    parser.add_argument("--name", default="memory")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(words)
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    modes = (options.mode or [name for name in OFFLOAD_MODES if name != "streamed-int8"]) if on_gpu else ["resident"]
    tasks = [Task(name) for name in options.task or ("joint", "dubbing", "animation")]
    lines: list[dict[str, Any]] = []
    with torch.no_grad():
        for task in tasks:
            for mode in modes:
                lines += clip_lines(
                    options.preset, request_of(task, options.size, options.frames), options.size, mode, device
                )
    on_cpu = (
        "tensors counted, without weights but for the whole clip, to which they are added; with_scratch: all that "
        "torch's allocator gives, by torch.profiler"
    )
    result = {
        "question": "How well is the memory of a clip predicted?",
        "settings": {"preset": options.preset, "size": str(options.size), "frames": options.frames},
        "measured_by": "torch.cuda.max_memory_allocated, weights included" if on_gpu else on_cpu,
        **circumstances(device_name(device)),
        "phases": lines,
    }
    print(tables.memory(result))
    keep(options.name, result, options.out)


def clip_lines(preset: str, request: Request, size: Size, mode: str, device: torch.device) -> list[dict[str, Any]]:
    """Returns one line per phase of a clip in one mode; none where it does not fit."""
    on_gpu = device.type == "cuda"
    parts = parts_of(preset)
    pipeline = pipeline_of(filled(parts), size)
    planner = MemoryPlanner(parts, workload_of(pipeline.prepare(request)))
    try:
        plan = planner.choose(torch.cuda.mem_get_info(device)[0], device, mode) if on_gpu else planner.resident()
    except ConfigError as error:
        print(f"{request.task}, {mode}: {error}")
        return []
    pipeline.configure(offload=replace(plan.offload, device=device))
    peaks = measured(pipeline, request, taken_on_gpu if on_gpu else taken_on_cpu)
    return [{"task": str(request.task), "mode": mode, **line} for line in compared(plan, peaks, on_gpu)]


if __name__ == "__main__":
    main()
