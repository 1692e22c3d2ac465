"""Two processes train as one: losses and gradients of every task, also where only one of them knows the truth."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_run import SETTINGS, TIMING, config, model, run, write_features

from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.tasks.mixture import StepSpec
from uniavgen.tasks.table import Task
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.sharding import full_tensor, shard_model, sharding_mesh
from uniavgen.training.step import step_losses

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
    samples = context.sample_indices(0, BATCH)
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


def as_one_of_two(rank: int, folder: str, rendezvous: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    context = ParallelContext(rank=rank, world_size=2)
    results = {case: one_step(folder, context, *case_of(case), sharded=True) for case in CASES}
    if rank == 0:
        torch.save(results, out)
    dist.destroy_process_group()


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
def two_processes(tmp_path_factory: pytest.TempPathFactory):
    """Folder of data, and what two processes computed of every case."""
    base = tmp_path_factory.mktemp("sharding")
    folder, out = write_features(base / "data"), base / "out.pt"
    mp.spawn(as_one_of_two, args=(folder, str(base / "rendezvous"), str(out)), nprocs=2)
    return folder, torch.load(out)


@pytest.mark.parametrize("case", CASES)
def test_two_sharded_processes_compute_the_losses_and_gradients_of_one(two_processes, case):
    folder, results = two_processes
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
