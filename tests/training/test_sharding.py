"""Two processes train as one: losses and gradients of every task, also where only one of them knows the truth."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.forks import in_two_processes
from tiny_run import SETTINGS, TIMING, config, model, run, write_features
from torch.utils._pytree import tree_leaves

from uniavgen.batch import Prediction
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import TrainingError
from uniavgen.tasks.mixture import StepSpec
from uniavgen.tasks.table import Task
from uniavgen.training.balance import part_gradient_norms
from uniavgen.training.callbacks import NonFiniteGuard
from uniavgen.training.loop import StepRecord
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.sharding import FLOAT32_MODULES, empty_model, full_tensor, shard_model, sharding_mesh
from uniavgen.training.state import TrainState
from uniavgen.training.step import step_losses

pytestmark = pytest.mark.slow

BATCH = 4
SPEECH = replace(SETTINGS.audio.speech, initial_symbol_duration=20.0, leading_silence=2.0)
WITH_DURATIONS = replace(SETTINGS, audio=replace(SETTINGS.audio, speech=SPEECH))
SPECS = {
    Task.JOINT: StepSpec(task=Task.JOINT, given_frames=1, given_tokens=0, reference_tokens=0),
    Task.REFERENCE_AUDIO: StepSpec(task=Task.REFERENCE_AUDIO, given_frames=1, given_tokens=0, reference_tokens=23),
    Task.CONTINUATION: StepSpec(task=Task.CONTINUATION, given_frames=2, given_tokens=31, reference_tokens=0),
    Task.DUBBING: StepSpec(
        task=Task.DUBBING, given_frames=TIMING.num_latent_frames, given_tokens=0, reference_tokens=0
    ),
    Task.ANIMATION: StepSpec(
        task=Task.ANIMATION, given_frames=1, given_tokens=TIMING.num_audio_tokens, reference_tokens=0
    ),
}


def one_step(folder: str, context: ParallelContext, spec: StepSpec, known_faces: tuple[int, ...] | None, sharded: bool):
    """Losses and gradients of one step; faces of other samples than `known_faces` are not known."""
    stage = config("stage.losses.pace=0.5").stage
    samples = context.share(range(BATCH))
    batch = run(folder, Path(folder)).objective.dataset.data.batch(spec, samples)
    if known_faces is not None:
        faces = [sample in known_faces for sample in samples]
        unknown = torch.full_like(batch.face_mask, torch.nan)
        masks = torch.where(torch.tensor(faces)[:, None, None], batch.face_mask, unknown)
        batch = replace(batch, face_mask=masks if any(faces) else None)
        timed = [f and sample == known_faces[0] for f, sample in zip(faces, samples, strict=True)]
        times = batch.text.symbol_timestamps
        if times is not None:
            times = torch.where(torch.tensor(timed)[:, None], times, torch.nan) if any(timed) else None
            batch = replace(batch, text=replace(batch.text, symbol_timestamps=times))
    trained = model(settings=WITH_DURATIONS)
    if sharded:
        shard_model(trained, sharding_mesh("cpu", context.world_size, degree=2))
    means = step_losses(trained, batch, SampleRandomness(seed=0, samples=samples), stage).means(context)
    total = means.total(stage.losses, 0, 10)
    total.backward()
    gradients = {
        name: None if parameter.grad is None else full_tensor(parameter.grad).clone()
        for name, parameter in trained.named_parameters()
    }
    return {**means.reported(), "total": total.detach()}, gradients


def whole_run(folder: str, context: ParallelContext, *overrides: str, begin: str = "cpu", late: bool = False):
    """Tasks, losses, and the weights and averages in the end, of a run of the real loop on clips with uneven truth.

    begin: device on which processes other than the first build their model, whose weights do not count.
    late: the last process sleeps between two steps.
    """
    settings = config("train.steps=6", "train.batch_size=4", "train.seed=8", *UNEVEN, *overrides)
    if context.is_main:
        trained = model(0, settings.model)
    else:
        trained = model(7, settings.model) if begin == "cpu" else empty_model(settings.model, {})
    one = run(folder, Path(folder), settings, context=context, trained=trained)
    records = []

    def note(record: StepRecord, state: TrainState) -> None:
        records.append((record.task, record.values))
        if late and record.step == 2 and context.rank == context.world_size - 1:
            time.sleep(1.5)

    one.train([note])
    state = one.state
    weights = {name: full_tensor(value.detach()).clone() for name, value in state.model.named_parameters()}
    averages = {name: full_tensor(value).clone() for name, value in state.ema.averages.items()}
    return records, weights, averages


UNEVEN = (
    "stage.tasks.ratios={joint: 1, reference_audio: 1, continuation: 1, dubbing: 1, animation: 1}",
    "stage.losses.duration=0.5",
    "stage.losses.lip_motion=0.1",
    "model.audio.speech.initial_symbol_duration=20.0",
    "model.audio.speech.leading_silence=2.0",
)
SHARDED = "sharding.shard_degree=2"
RUNS = {
    "a copy each": {},
    "shared": {"overrides": (SHARDED,), "begin": "meta"},
    "shared, kept gathered": {"overrides": (SHARDED, "sharding.reshard_after_forward=false")},
    "shared, far prefetch": {"overrides": (SHARDED, "sharding.prefetch_blocks=3"), "late": True},
    "micro batches": {"overrides": ("train.micro_batch_size=1", "train.activation_checkpointing=2")},
    "shared, micro batches": {"overrides": (SHARDED, "train.micro_batch_size=1", "train.activation_checkpointing=1")},
    "shared, kept gathered, micro batches": {
        "overrides": (SHARDED, "sharding.reshard_after_forward=false", "train.micro_batch_size=1", "data.workers=1"),
        "begin": "meta",
    },
}
"""Settings that change how a run is computed, and not what."""
OTHER_RUNS = {
    "bf16": ("train.precision=bf16",),
    "adapter": ("lora.rank=2", "train.precision=bf16"),
}
"""Settings that change what is computed; two processes compute it as one does, to the rounding of bf16."""


def run_that_fails(folder: str, context: ParallelContext) -> dict[str, object]:
    """Norms of the parts' gradients of the first step, and how a run ends whose second clip is NaN from step 2 on."""
    settings = config("train.steps=6", "train.batch_size=2", "train.ema=0")
    one, norms, weights = run(folder, Path(folder) / "out", settings, context=context), [], []
    whole = one.objective.losses

    def losses(batch, step):
        if step > 0 and 1 in range(context.rank, context.rank + 2 // context.world_size):
            batch.mel[-1] = torch.nan
        return whole(batch, step)

    def note(record, state) -> None:
        found = part_gradient_norms(state.model, record.grad_norm)
        norms.append({part: float(norm) for part, norm in found.items()})
        weights.append([full_tensor(parameter.detach()).clone() for parameter in state.model.parameters()])

    one.objective.losses = losses
    try:
        one.train([note, NonFiniteGuard(every=1, max_in_a_row=3, context=context)])
    except TrainingError as error:
        unchanged = all(torch.equal(a, b) for a, b in zip(weights[0], weights[-1], strict=True))
        return {"norms": norms[0], "error": str(error), "steps": len(norms), "unchanged": unchanged}
    return {}


def few_steps(folder: str, context: ParallelContext, *overrides: str) -> list[dict[str, float]]:
    """Losses and gradient norms of two joint steps of one block that is computed again; see `GRAPHS`."""
    settings = config(*ONE_BLOCK, "train.activation_checkpointing=1", *overrides)
    trained = model(0, settings.model)
    trained.compile_repeated_blocks = partial(trained.compile_repeated_blocks, **GRAPHS)
    one, seen = run(folder, Path(folder), settings, context=context, trained=trained), []
    one.train([lambda record, _: seen.append(record.values)])
    return seen


ONE_BLOCK = (
    "train.steps=2",
    "model.num_layers=1",
    "model.interaction.layers=[0]",
    "stage.tasks.ratios={joint: 1, reference_audio: 0, continuation: 0, dubbing: 0, animation: 0}",
)
GRAPHS = {"backend": "eager"}
"""What torch.compile finds is run as it is: the graphs are those of a real compilation, without its half minute."""


def as_one_of_two(context: ParallelContext, folder: str, uneven: str):
    """Results of every case and run, and how the run that fails ends."""
    results = {case: one_step(folder, context, *case_of(case), sharded=True) for case in CASES}
    results |= {name: whole_run(uneven, context, *each.pop("overrides", ()), **each) for name, each in RUNS.items()}
    for name, overrides in OTHER_RUNS.items():
        results[name] = whole_run(uneven, context, SHARDED, *overrides)
    results["compiled"] = few_steps(folder, context, SHARDED, "train.compile=true")
    results["num_graphs"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return results if context.is_main else {}, run_that_fails(folder, context)


CASES = (*(task.value for task in Task), "faces on one process", "faces on no process")


def case_of(name: str) -> tuple[StepSpec, tuple[int, ...] | None]:
    """Task, and samples with known faces."""
    match name:
        case "faces on one process":
            return SPECS[Task.JOINT], (3,)
        case "faces on no process":
            return SPECS[Task.JOINT], ()
        case _:
            return SPECS[Task(name)], None


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of data in which two of five clips have no truth for faces, mouths and words."""
    return write_features(tmp_path_factory.mktemp("uneven") / "data", unknown=(1, 3))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory, uneven: str):
    """Folder of data, and what two processes computed of every case."""
    folder = write_features(tmp_path_factory.mktemp("sharding") / "data")
    (results, fails), (_, other_fails) = in_two_processes(as_one_of_two, folder, uneven)
    return folder, results, [fails, other_fails]


@pytest.fixture(scope="module")
def one_process(uneven: str):
    return whole_run(uneven, SINGLE_PROCESS)


def assert_same_run(found, expected, tolerance: float) -> None:
    for (task, losses), (expected_task, expected_losses) in zip(found[0], expected[0], strict=True):
        assert task == expected_task
        assert losses == pytest.approx(expected_losses, rel=tolerance, abs=tolerance, nan_ok=True)
    for tensors, expected_tensors in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(tensors, expected_tensors, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(two_processes, one_process, name):
    assert {task for task, _ in one_process[0]} == {*Task}
    assert_same_run(two_processes[1][name], one_process, 1e-6)


# Said once by torch's mixed-precision norm on the CPU.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("name", OTHER_RUNS)
def test_two_processes_train_as_one_to_the_rounding_of_bf16(two_processes, uneven, name):
    assert_same_run(two_processes[1][name], whole_run(uneven, SINGLE_PROCESS, *OTHER_RUNS[name]), 2e-2)


@pytest.mark.parametrize("overrides", [("train.micro_batch_size=3",), ("train.activation_checkpointing=2",)])
def test_memory_settings_change_nothing_in_one_process(uneven, one_process, overrides):
    assert_same_run(whole_run(uneven, SINGLE_PROCESS, *overrides), one_process, 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_two_sharded_processes_compute_the_losses_and_gradients_of_one(two_processes, case):
    folder, results, _ = two_processes
    losses, gradients = results[case]
    expected, expected_gradients = one_step(folder, SINGLE_PROCESS, *case_of(case), sharded=False)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert expected["face_mask"].isnan() == (case == "faces on no process") if "face_mask" in expected else True
    for name, gradient in expected_gradients.items():
        if gradient is None:
            assert gradients[name] is None, name
        else:
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-6)


def test_compiled_blocks_of_two_sharded_processes_train_as_one_process_without(two_processes):
    folder, results, _ = two_processes
    assert results["num_graphs"] > 0
    for compiled, plain in zip(results["compiled"], few_steps(folder, SINGLE_PROCESS), strict=True):
        assert compiled == pytest.approx(plain, rel=1e-6, abs=1e-6, nan_ok=True)


def test_clip_that_is_not_finite_in_one_process_skips_the_step_and_ends_the_run_in_all(two_processes):
    folder, _, fails = two_processes
    alone = run_that_fails(folder, SINGLE_PROCESS)
    for found in fails:
        assert found["steps"] == alone["steps"] == 4
        assert found["unchanged"]
        assert "not finite in 3 steps in a row, up to step 4" in found["error"]
        assert found["norms"] == pytest.approx(alone["norms"], rel=1e-4, abs=1e-6)


def test_outputs_of_sharded_modules_are_not_changed_in_place(uneven):
    """Else FSDP2 would lose the hook by which a module's weights are gathered again in the backward pass."""
    settings = config("train.steps=3", *UNEVEN)
    one = run(uneven, Path(uneven), settings, trained=model(0, settings.model))
    noted: list[tuple[torch.Tensor, int]] = []

    def note(_module, _inputs, output):
        if isinstance(output, Prediction):
            output = (output.velocity.video, output.velocity.audio, output.face_masks)
        noted.extend((value, value._version) for value in tree_leaves(output) if isinstance(value, torch.Tensor))

    network = one.state.model
    units = [network, network.video_stem.condition_embedder.text_embedder, *network.blocks]
    units += [module for module in network.modules() if isinstance(module, FLOAT32_MODULES)]
    for unit in units:
        unit.register_forward_hook(note)
    one.train()
    assert len(noted) > 3 * len(units)
    assert all(value._version == version for value, version in noted)
