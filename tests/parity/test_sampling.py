"""Sampled trajectories equal the authors' loop: steps, shift, guidance and gates of every set, in float32.

Given parts are compared as the sampler leaves them: their states evolve too, only what the model sees is overwritten.
"""

from fractions import Fraction

import pytest
import torch
from golden import TOLERANCE, GoldenSet, golden_set, or_skip, relative_error, set_names

from uniavgen.batch import AVPair
from uniavgen.flow.choices import SolverKind
from uniavgen.flow.guidance import (
    NO_TEXT,
    NO_TEXT_NO_INTERACTION,
    Guidance,
    GuidanceInterval,
    GuidancePlan,
    with_skip_layers,
)
from uniavgen.flow.sampling import sample
from uniavgen.flow.schedule import ScheduleConfig, sigmas
from uniavgen.flow.solver import make_solver
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions
from uniavgen.tasks.table import TASKS, ModalityRole, Task
from uniavgen.timebase import Source

NAMES = {task.value: task for task in Task} | {
    "joint_reference_audio": Task.REFERENCE_AUDIO,
    "audio_driven": Task.ANIMATION,
}
CASES = [
    pytest.param(name, task, preset, id=f"{name}-{task}-{preset}")
    for name in set_names()
    for task, preset in golden_set(name).sampled
]
GIVEN_CASES = [
    case
    for case in CASES
    if ModalityRole.GIVEN in (TASKS[NAMES[case.values[1]]].video, TASKS[NAMES[case.values[1]]].audio)
]


def plan_of(numbers: GoldenSet, task: Task, preset: str) -> GuidancePlan:
    settings, source = numbers.sampling, Source(preset)
    fraction = Fraction(str(settings["modality_guidance_fraction"]))
    stretches = [GuidanceInterval(end=fraction, uncond=NO_TEXT_NO_INTERACTION)] if fraction > 0 else []
    stretches += [GuidanceInterval(end=Fraction(1), uncond=NO_TEXT)] if fraction < 1 else []
    guidance = Guidance(intervals=tuple(stretches))
    if source is Source.RELEASE:
        guidance = with_skip_layers(guidance, (settings["skip_layer"],))
    return GuidancePlan(
        guidance=guidance,
        scale=AVPair(video=settings["video_guidance"], audio=settings["audio_guidance"]),
        conditional_gate=TASKS[task].conditional_gate(source),
        uncond_gate=TASKS[task].gate,
    )


def conditions_of(numbers: GoldenSet, task: Task) -> ClipConditions:
    spec, with_reference = TASKS[task], task is Task.REFERENCE_AUDIO
    frames = numbers.input("video_noise").shape[2]
    reference, given = numbers.given_picture(frames if spec.video is ModalityRole.GIVEN else 1)
    return ClipConditions(
        reference_image=reference,
        given_video=given,
        given_audio=numbers.input("cond_audio") if spec.audio is ModalityRole.GIVEN else None,
        reference_audio=numbers.input("ref_audio") if with_reference else None,
    )


def sampled(
    numbers: GoldenSet,
    case: str,
    preset: str,
    reuse: bool = True,
    batch_passes: bool = False,
    model: UniAVGenTransformer | None = None,
) -> AVPair:
    task, settings = NAMES[case], numbers.sampling
    prefix = f"sampling.{case}.{preset}"
    noise = AVPair(video=numbers.io[f"{prefix}.video_noise"][None], audio=numbers.io[f"{prefix}.audio_noise"][None])
    with_reference = task is Task.REFERENCE_AUDIO
    velocity = ClipVelocity(
        transformer=numbers.model if model is None else model,
        task=task,
        clean=conditions_of(numbers, task),
        texts={text: numbers.text(null=not text, with_reference=with_reference) for text in (True, False)},
        reuse=reuse,
        batch_passes=batch_passes,
    )
    times = sigmas(settings["steps"], ScheduleConfig(shift=settings["shift"]))
    with torch.no_grad():
        return sample(velocity, noise, times, plan_of(numbers, task, preset), make_solver(SolverKind.EULER, times))


@pytest.mark.parametrize(("name", "case", "preset"), or_skip(CASES, "sets with sampled trajectories", 3))
def test_sampling_equals_the_release(name: str, case: str, preset: str) -> None:
    numbers = golden_set(name)
    ours = sampled(numbers, case, preset, reuse=False)
    assert relative_error(ours.video, numbers.io[f"sampling.{case}.{preset}.video"][None]) < TOLERANCE
    assert relative_error(ours.audio, numbers.io[f"sampling.{case}.{preset}.audio"][None]) < TOLERANCE


@pytest.mark.parametrize(("name", "case", "preset"), or_skip(CASES, "sets with sampled trajectories", 3))
def test_batched_passes_change_nothing(name: str, case: str, preset: str) -> None:
    numbers = golden_set(name)
    ours, together = (sampled(numbers, case, preset, batch_passes=batched) for batched in (False, True))
    assert relative_error(together.video, ours.video) < TOLERANCE
    assert relative_error(together.audio, ours.audio) < TOLERANCE


@pytest.mark.parametrize(("name", "case", "preset"), or_skip(GIVEN_CASES, "sets with a given modality", 3))
def test_given_modality_that_runs_once_changes_nothing(name: str, case: str, preset: str) -> None:
    numbers, spec = golden_set(name), TASKS[NAMES[case]]
    ours = sampled(numbers, case, preset)
    if spec.video is not ModalityRole.GIVEN:
        assert relative_error(ours.video, numbers.io[f"sampling.{case}.{preset}.video"][None]) < TOLERANCE
    if spec.audio is not ModalityRole.GIVEN:
        assert relative_error(ours.audio, numbers.io[f"sampling.{case}.{preset}.audio"][None]) < TOLERANCE
