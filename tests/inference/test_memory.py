"""Predicted memory is what tensors take; the modes are chosen by what fits."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from uniavgen.codecs.video_vae import to_frames, to_pixels
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.inference import memory
from uniavgen.inference.clip import Phase
from uniavgen.inference.load_components import load_components
from uniavgen.inference.memory import GIB, MemoryPlanner, largest_workload, workload_of
from uniavgen.inference.meta_model import WORKING_DTYPE, base_meta_model, saved_meta_model
from uniavgen.inference.offload import OFFLOAD_MODES, OffloadConfig, WeightStorage, quantize
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.request import Request
from uniavgen.models.tensor_memory import TensorMemoryCounter, stored_bytes
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase

HEIGHT, WIDTH, NUM_FRAMES = 64, 96, 17
FRAMES = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
SOUND = np.sin(np.arange(NUM_FRAMES * 1500) * 0.05).astype(np.float32) * 0.5
COMMON = {"num_frames": NUM_FRAMES, "speech": "Hi there.", "caption": "A woman speaks."}
REQUESTS = {
    Task.JOINT: Request(task=Task.JOINT, image=FRAMES[0], **COMMON),
    Task.DUBBING: Request(task=Task.DUBBING, video=FRAMES, **COMMON),
    Task.ANIMATION: Request(task=Task.ANIMATION, image=FRAMES[0], audio=SOUND, **COMMON),
}
GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "release_codec_parameters.json"


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory) -> Path:
    """The tiny pipeline, saved for pictures that are not square."""
    saved = tmp_path_factory.mktemp("models") / "tiny"
    pipeline.save_pretrained(saved)
    index = json.loads((saved / "model_index.json").read_text())
    index["picture_config"] |= {"height": HEIGHT, "width": WIDTH}
    (saved / "model_index.json").write_text(json.dumps(index))
    return saved


@pytest.fixture(scope="module")
def base():
    return base_meta_model()


@pytest.fixture(scope="module")
def planner(base) -> MemoryPlanner:
    """The paper's clip."""
    return MemoryPlanner(base, largest_workload(Task.JOINT, 736, 1280, Timebase().clip(81), base.sampling))


def measured_peak(run, module, *given) -> int:
    existing = [*module.parameters(), *module.buffers(), *given]
    with torch.no_grad(), TensorMemoryCounter("cpu", ignoring=existing) as counter:
        run()
    return counter.peak_bytes


def counted_peak(parts, work, phase, **options) -> int:
    return MemoryPlanner(parts, work)._count_activations(phase, work, OffloadConfig(**options))


@pytest.mark.parametrize(("batch_passes", "text_kv_fits"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("task", REQUESTS)
def test_predicted_activations_are_those_of_a_real_clip(folder, task, batch_passes, text_kv_fits):
    pipeline, request = UniAVGenPipeline(**load_components(folder, {})), REQUESTS[task]
    pipeline.offload = OffloadConfig(batch_passes=batch_passes, text_kv_fits=text_kv_fits)
    prepared = pipeline.prepare(request)
    planner = MemoryPlanner(saved_meta_model(folder, None), workload_of(prepared))
    plan = planner._plan(pipeline.offload)
    predicted = {phase.phase: phase.activations for phase in plan.phases}

    conditions = pipeline.encode(prepared)
    noise = pipeline.initial_noise(conditions)
    codec, pixels = pipeline.video_codec, to_pixels(torch.from_numpy(prepared.inputs.frames)[None])

    def decode() -> None:
        for shown in codec.decode_frames(noise.video):
            to_frames(shown)

    def sample():
        return pipeline.sample(conditions, noise=noise)

    measured_peak(sample, pipeline.transformer)  # Tables of angles are made once and kept.
    real = {
        Phase.ENCODE_TEXT: measured_peak(lambda: pipeline.encode_texts(prepared), pipeline.text_encoder),
        Phase.ENCODE_FRAMES: measured_peak(lambda: codec.encode(pixels), pipeline.vae, pixels),
        Phase.SAMPLE: measured_peak(sample, pipeline.transformer),
    }
    if task is not Task.DUBBING:
        real[Phase.DECODE_VIDEO] = measured_peak(decode, pipeline.vae)
    if task is not Task.ANIMATION:
        real[Phase.DECODE_AUDIO] = measured_peak(lambda: pipeline.decode_audio(noise.audio), pipeline.vocoder)
    for phase, peak in real.items():
        assert predicted[phase] == pytest.approx(peak, rel=0.1), phase


def test_tiled_decoding_needs_the_memory_of_one_tile(folder):
    parts = saved_meta_model(folder, None)
    work = largest_workload(Task.JOINT, 256, 512, Timebase().clip(NUM_FRAMES), parts.sampling)

    def peak(width: int, tile_px: int | None) -> int:
        return counted_peak(parts, replace(work, width=width), Phase.DECODE_VIDEO, decode_tile_px=tile_px)

    assert peak(512, 256) == peak(256, None) < peak(512, None) / 1.9


@pytest.mark.parametrize("text_kv_fits", [True, False])
def test_activations_of_one_layer_of_each_kind_predict_those_of_all(folder, monkeypatch, text_kv_fits):
    parts = saved_meta_model(folder, None)
    work = largest_workload(Task.JOINT, HEIGHT, WIDTH, Timebase().clip(NUM_FRAMES), parts.sampling)
    assert memory._layers_left_out(parts.transformer, Task.JOINT)
    predicted = counted_peak(parts, work, Phase.SAMPLE, text_kv_fits=text_kv_fits)
    monkeypatch.setattr(memory, "_layers_left_out", lambda transformer, task: ())
    assert predicted == pytest.approx(counted_peak(parts, work, Phase.SAMPLE, text_kv_fits=text_kv_fits), rel=0.02)


def test_meta_model_has_shapes_and_precisions_of_the_loaded_model(folder):
    dtypes = {"transformer": WORKING_DTYPE, "text_encoder": WORKING_DTYPE, "default": torch.float32}
    loaded, parts = UniAVGenPipeline(**load_components(folder, dtypes)), saved_meta_model(folder)
    for name, network in parts.networks.items():
        real = getattr(loaded, name)
        assert all(tensor.is_meta for tensor in network.parameters())
        assert {key: (value.shape, value.dtype) for key, value in network.named_parameters()} == {
            key: (value.shape, value.dtype) for key, value in real.named_parameters()
        }
    assert (parts.resize_rule, parts.sampling) == (loaded.resize_rule, loaded.sampling)
    assert parts.caption_tokens == loaded.tokenizer.model_max_length


@pytest.mark.parametrize("weights", [WeightStorage.FP8, WeightStorage.INT8])
def test_quantized_bytes_are_predicted_exactly(fresh_pipeline, folder, weights):
    if weights is WeightStorage.INT8:
        pytest.importorskip("torchao", reason="the extra 'quant' is not installed")
    parts = saved_meta_model(folder, None)
    planner = MemoryPlanner(
        parts, largest_workload(Task.JOINT, HEIGHT, WIDTH, Timebase().clip(NUM_FRAMES), parts.sampling)
    )
    transformer = fresh_pipeline.transformer
    quantize(transformer, weights)
    stored = sum(
        sum(getattr(value, name).nbytes for name in value.tensor_data_names)
        if hasattr(value, "tensor_data_names")
        else value.nbytes
        for value in transformer.parameters()
    )
    sizes = {kind: stored_bytes(planner._stored(kind)["transformer"]) for kind in (weights, WeightStorage.AS_LOADED)}
    assert sizes[weights] == stored < sizes[WeightStorage.AS_LOADED]


def test_base_meta_model_has_the_papers_sizes(base):
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in base.networks.items()}
    assert count["transformer"] / 1e9 == pytest.approx(7.056, abs=0.001)
    assert (count["text_encoder"], count["vae"]) == (5_680_910_336, 704_688_668)
    assert count["vocoder"] / 1e6 == pytest.approx(115.4, abs=0.1)


@pytest.mark.skipif(not GOLDEN.exists(), reason="the recorded names of the release are not here")
def test_base_encoders_are_as_large_as_the_releases(base):
    recorded = json.loads(GOLDEN.read_text())
    sizes = {file: sum(int(np.prod(shape)) for shape in shapes.values()) for file, shapes in recorded.items()}
    ours = [sum(p.numel() for p in base.networks[name].parameters()) for name in ("text_encoder", "vae")]
    assert sorted(ours) == sorted(sizes.values())


def test_planner_chooses_modes_of_the_papers_model(planner):
    chosen = {vram: planner.choose(vram * GIB) for vram in (80, 24, 12)}
    names = [plan.offload.mode.name for plan in chosen.values()]
    assert names == ["resident", "turns", "streamed-fp8"]
    assert all(plan.peak.required <= vram * GIB for vram, plan in chosen.items())
    alone = ["text_encoder", "vae", "transformer", "vae", "vocoder"]
    assert [list(phase.resident) for phase in chosen[24].phases] == [[part] for part in alone]
    assert all(len(phase.resident) == 4 for phase in chosen[80].phases)
    assert chosen[80].host_bytes == 0 < chosen[12].host_bytes < chosen[24].host_bytes
    # A tenth of the blocks, in half the bytes.
    sample = {vram: plan.phases[2].resident["transformer"] for vram, plan in chosen.items()}
    assert sample[12] < sample[24] / 6


def test_planner_never_needs_more_for_a_smaller_budget(planner):
    plans = [planner.choose(vram * GIB) for vram in (80, 48, 24, 16, 12, 8)]
    ranks = [list(OFFLOAD_MODES).index(plan.offload.mode.name) for plan in plans]
    assert ranks == sorted(ranks)
    assert all(before.peak.required >= after.peak.required for before, after in pairwise(plans))


def test_plan_for_several_tasks_fits_each_of_them(folder):
    parts = saved_meta_model(folder)
    joint, animation, large = (
        largest_workload(task, side, side, Timebase().clip(NUM_FRAMES), parts.sampling)
        for task, side in ((Task.JOINT, 64), (Task.ANIMATION, 64), (Task.DUBBING, 128))
    )
    alone = [MemoryPlanner(parts, workload).resident() for workload in (joint, animation, large)]
    together = MemoryPlanner(parts, joint, animation, large).resident()
    assert [phase.phase for phase in together.phases] == [*Phase]
    for phase in together.phases:
        peaks = [each.peak for plan in alone for each in plan.phases if each.phase is phase.phase]
        assert phase.peak == max(peaks)
    budget = math.ceil(together.peak.required) - 1
    fitted = MemoryPlanner(parts, joint, animation, large).choose(budget)
    assert all(phase.required <= budget for phase in fitted.phases)
    for workload in (joint, animation, large):
        phases = MemoryPlanner(parts, workload)._plan(fitted.offload).phases
        assert all(phase.required <= budget for phase in phases)


def test_error_names_the_mode_that_would_fit(planner):
    with pytest.raises(ConfigError, match=r"to sample in mode resident, there are 24\.0; mode turns would fit"):
        planner.choose(24 * GIB, mode="resident")


def test_planner_respects_host_memory(planner):
    turns, streamed = (planner.choose(vram * GIB).host_bytes for vram in (24, 12))
    assert planner.choose(24 * GIB, host=turns).offload.mode.name == "turns"
    assert planner.choose(24 * GIB, host=turns - 1).offload.mode.name == "streamed-fp8"
    message = r"in mode streamed-fp8 20\.6 GB of weights wait in this computer's memory, of which 20\.6 GB are free"
    with pytest.raises(ConfigError, match=f"{message}; close other programs, or use a GPU with 3"):
        planner.choose(24 * GIB, host=streamed - 1)
    with pytest.raises(ConfigError, match=r"in mode turns 26\.9 GB .* mode streamed-fp8 would fit"):
        planner.choose(24 * GIB, mode="turns", host=streamed)
    assert planner.choose(80 * GIB, host=0).offload.mode.name == "resident"


def test_error_names_the_size_that_would_fit(folder):
    parts = saved_meta_model(folder)
    small, large = (
        MemoryPlanner(parts, largest_workload(Task.JOINT, side, side, Timebase().clip(NUM_FRAMES), parts.sampling))
        for side in (128, 256)
    )
    enough = max(math.ceil(phase.required) for phase in small._smallest(OFFLOAD_MODES["streamed-fp8"]))
    assert small.choose(enough).peak.required <= enough
    with pytest.raises(ConfigError, match=r"256x256 px and 17 frames need 0\.8 GB .*; 128x128 would fit, or a device"):
        large.choose(enough)
    with pytest.raises(ConfigError, match=r"there are 0\.1; no smaller picture fits either"):
        large.choose(GIB // 10)


def test_meta_model_of_a_folder_without_configs_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"model_index.json cannot be read: no such file"):
        saved_meta_model(tmp_path)
