"""Samples a clip: integrates dx/dsigma = v(x, sigma) from noise at sigma = 1 to data at sigma = 0.

The velocity is a function that the caller passes; this loop knows neither model nor task.

Letters: b batch, n = number of steps + 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from uniavgen.batch import AVPair
from uniavgen.flow.guidance import GuidancePlan, Pass
from uniavgen.flow.path import predict_clean
from uniavgen.flow.solver import Solver

VelocityFunction = Callable[[AVPair, AVPair, tuple[Pass, ...]], Sequence[AVPair]]
"""Takes the state, sigma of each modality (` b`, float32) and a step's passes; returns the velocity in each of them."""


@dataclass(frozen=True, kw_only=True)
class SamplingStep:
    """Reports a step that was taken to `OnStep`."""

    index: int
    num_steps: int
    state: AVPair
    """x at the end of the step."""
    clean: AVPair
    """x_0 as the step's velocity predicted it: a preview."""


OnStep = Callable[[SamplingStep], None]


def sample(
    velocity: VelocityFunction,
    noise: AVPair,
    sigmas: AVPair,
    plan: GuidancePlan,
    solver: Solver,
    on_step: OnStep | None = None,
) -> AVPair:
    """Integrates from `noise` at the first of `sigmas` (` n`, a sequence a modality) to the last; states are float32.

    Given parts evolve with their velocity like everything else; the layout of each pass puts the clean values in
    their place (`tasks.conditioning.condition`), and the caller imposes them on the result. An exception that
    `on_step` raises ends the sampling.
    """
    state = _float32(noise)
    num_steps, samples = len(sigmas.video) - 1, state.video.shape[0]
    for step in range(num_steps):
        sigma = AVPair(
            video=sigmas.video[step].to(state.video.device).expand(samples),
            audio=sigmas.audio[step].to(state.audio.device).expand(samples),
        )
        guided = guided_velocity(velocity, state, sigma, plan, step, num_steps)
        before, state = state, solver.advance(state, guided, step)
        if on_step is not None:
            clean = predict_clean(before, guided, sigma)
            on_step(SamplingStep(index=step, num_steps=num_steps, state=state, clean=clean))
    return state


def guided_velocity(
    velocity: VelocityFunction, state: AVPair, sigma: AVPair, plan: GuidancePlan, step: int, num_steps: int
) -> AVPair:
    """Returns the guided velocity of a step: sum of w v over its passes (`GuidancePlan.weighted_passes`), float32."""
    weighted = plan.weighted_passes(step, num_steps)
    velocities = velocity(state, sigma, tuple(each.pass_ for each in weighted))
    first, *others = (_float32(v) * each.weight for v, each in zip(velocities, weighted, strict=True))
    return sum(others, start=first)


def _float32(pair: AVPair) -> AVPair:
    return AVPair(video=pair.video.to(torch.float32), audio=pair.audio.to(torch.float32))
