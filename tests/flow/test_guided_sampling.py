from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from uniavgen.batch import CLOSED, OPEN, AVPair, Gate
from uniavgen.errors import ConfigError
from uniavgen.flow.choices import SolverKind
from uniavgen.flow.guidance import (
    CONDITIONAL,
    GUIDANCE,
    NO_TEXT,
    NO_TEXT_NO_INTERACTION,
    Dropout,
    Guidance,
    GuidanceInterval,
    GuidancePlan,
    Pass,
    with_skip_layers,
)
from uniavgen.flow.sampling import sample
from uniavgen.flow.schedule import ScheduleConfig, sigmas
from uniavgen.flow.solver import make_solver

STEPS = 6
TIMES = sigmas(STEPS, ScheduleConfig())
SCALE = AVPair(video=3.0, audio=2.0)


def pair(seed):
    generator = torch.Generator().manual_seed(seed)
    return AVPair(
        video=torch.randn(1, 3, 5, 2, 2, generator=generator), audio=torch.randn(1, 7, 4, generator=generator)
    )


def run(velocity, preset="none", scale=SCALE, solver=SolverKind.EULER, times=TIMES, noise=None, **gates):
    plan = GuidancePlan(guidance=GUIDANCE[preset], scale=scale, **gates)
    return sample(one_by_one(velocity), noise or pair(0), times, plan, make_solver(solver, times))


def one_by_one(velocity):
    """The sampler's callable out of one that takes a single pass."""
    return lambda state, sigma, runs: [velocity(state, sigma, run_pass) for run_pass in runs]


@pytest.mark.parametrize("solver", SolverKind)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_solvers_are_exact_on_a_straight_path(solver, steps):
    noise, clean = pair(0), pair(1)
    out = run(lambda *_: noise - clean, solver=solver, times=sigmas(steps, ScheduleConfig()))
    assert torch.allclose(out.video, clean.video, atol=1e-5)
    assert torch.allclose(out.audio, clean.audio, atol=1e-5)


@pytest.mark.parametrize("solver", SolverKind)
def test_solvers_reach_mean_and_scale_of_a_gaussian_flow(solver):
    # x_0 ~ N(m, d^2): E[eps - x_0 | x_t] is linear in x_t, and the flow maps noise e to m + d e.
    mean, deviation = 0.7, 0.3

    def velocity(state, sigma, _):
        t = float(sigma.video[0])
        variance = (1 - t) ** 2 * deviation**2 + t**2
        slope = (t - (1 - t) * deviation**2) / variance
        return AVPair(
            video=slope * (state.video - (1 - t) * mean) - mean,
            audio=slope * (state.audio - (1 - t) * mean) - mean,
        )

    noise = pair(0)

    def error(steps):
        out = run(velocity, solver=solver, times=sigmas(steps, ScheduleConfig(shift=1.0)), noise=noise)
        return (out.video - (mean + deviation * noise.video)).abs().max().item()

    assert error(64) < error(16) / 3
    assert error(64) < {SolverKind.EULER: 0.05, SolverKind.UNIPC: 0.01}[solver]


@pytest.mark.parametrize("solver", SolverKind)
def test_modality_with_a_shift_of_its_own_is_sampled_as_both_with_that_shift(solver):
    def velocity(state, sigma, _):
        return AVPair(video=state.video * sigma.video.cos(), audio=state.audio * sigma.audio.cos())

    def sampled(**shifts):
        return run(velocity, solver=solver, times=sigmas(STEPS, ScheduleConfig(**shifts)))

    apart = sampled(shift=3.0, audio_shift=2.0)
    assert torch.equal(apart.video, sampled(shift=3.0).video)
    assert torch.equal(apart.audio, sampled(shift=2.0).audio)
    assert not torch.equal(apart.audio, sampled(shift=3.0).audio)


def test_unipc_modalities_do_not_share_history():
    noise, clean = pair(0), pair(1)
    both = run(lambda s, t, p: (s - clean) * (1 / float(t.video[0])), solver=SolverKind.UNIPC, noise=noise)
    other = replace(clean, video=clean.video * 5)
    changed = run(lambda s, t, p: (s - other) * (1 / float(t.video[0])), solver=SolverKind.UNIPC, noise=noise)
    assert torch.equal(both.audio, changed.audio)


def constant(run_pass):
    """A velocity that is one number a pass."""
    gate = run_pass.gate
    return 1.0 + 2.0 * run_pass.text + 4.0 * gate.a2v + 8.0 * gate.v2a + 16.0 * len(run_pass.skip_layers)


def recorded_passes(preset, steps=STEPS, **options):
    calls = []

    def velocity(state, sigma, run_pass):
        calls.append((round(float(sigma.video[0]), 6), run_pass))
        return state * 0.0

    run(velocity, preset, times=sigmas(steps, ScheduleConfig()), **options)
    order = [round(float(s), 6) for s in sigmas(steps, ScheduleConfig()).video[:-1]]
    return [[p for s, p in calls if s == at] for at in order]


@pytest.mark.parametrize(
    ("preset", "first", "second"),
    [
        ("none", [CONDITIONAL], [CONDITIONAL]),
        ("vanilla", [CONDITIONAL, NO_TEXT], [CONDITIONAL, NO_TEXT]),
        ("ma_cfg", [CONDITIONAL, NO_TEXT_NO_INTERACTION], [CONDITIONAL, NO_TEXT_NO_INTERACTION]),
        ("ma_cfg_interval", [CONDITIONAL, NO_TEXT_NO_INTERACTION], [CONDITIONAL, NO_TEXT]),
        ("ma_cfg_interval_none", [CONDITIONAL, NO_TEXT_NO_INTERACTION], [CONDITIONAL]),
        (
            "release",
            [CONDITIONAL, replace(NO_TEXT_NO_INTERACTION, skip_layers=(11,))],
            [CONDITIONAL, replace(NO_TEXT, skip_layers=(11,))],
        ),
    ],
)
def test_guidance_presets_are_lists_of_passes(preset, first, second):
    passes = recorded_passes(preset)
    assert passes == [first] * 3 + [second] * 3
    odd = recorded_passes(preset, steps=5)
    assert odd == [first] * 2 + [second] * 3


def test_guidance_of_scale_one_is_the_conditional_pass_alone():
    assert recorded_passes("ma_cfg", scale=AVPair(video=1.0, audio=1.0)) == [[CONDITIONAL]] * STEPS
    only_video = recorded_passes("ma_cfg", scale=AVPair(video=3.0, audio=1.0))
    assert only_video == [[CONDITIONAL, NO_TEXT_NO_INTERACTION]] * STEPS


def test_guidance_combines_passes_linearly_per_modality():
    def velocity(state, sigma, run_pass):
        return AVPair(
            video=torch.full_like(state.video, constant(run_pass)),
            audio=torch.full_like(state.audio, -constant(run_pass)),
        )

    noise = pair(0)
    out = run(velocity, "ma_cfg", noise=noise)
    c, u = constant(CONDITIONAL), constant(NO_TEXT_NO_INTERACTION)
    assert torch.allclose(out.video, noise.video - (u + 3 * (c - u)), atol=1e-4)
    assert torch.allclose(out.audio, noise.audio + (u + 2 * (c - u)), atol=1e-4)


def test_gate_of_a_task_closes_its_direction_in_every_pass():
    gate = Gate(a2v=False)
    passes = recorded_passes("ma_cfg_interval", conditional_gate=gate, uncond_gate=gate)
    assert passes[0] == [replace(CONDITIONAL, gate=gate), NO_TEXT_NO_INTERACTION]
    assert passes[-1] == [replace(CONDITIONAL, gate=gate), replace(NO_TEXT, gate=gate)]
    release = recorded_passes("ma_cfg_interval", conditional_gate=Gate(v2a=False), uncond_gate=OPEN)
    assert release[-1] == [replace(CONDITIONAL, gate=Gate(v2a=False)), NO_TEXT]


def test_guidance_plan_lists_its_passes_once():
    plan = GuidancePlan(guidance=GUIDANCE["ma_cfg_interval"], scale=SCALE)
    assert plan.passes(STEPS) == [CONDITIONAL, NO_TEXT_NO_INTERACTION, NO_TEXT]


def test_skip_layers_replace_those_of_the_preset():
    guidance = with_skip_layers(GUIDANCE["ma_cfg"], (1, 2))
    assert guidance.uncond_pass(0, 2) == Pass(text=False, gate=CLOSED, skip_layers=(1, 2))


def test_callback_gets_every_step_and_can_stop():
    clean, noise, steps = pair(1), pair(0), []
    plan = GuidancePlan(guidance=GUIDANCE["none"], scale=SCALE)
    straight = one_by_one(lambda *_: noise - clean)
    sample(straight, noise, TIMES, plan, make_solver(SolverKind.EULER, TIMES), steps.append)
    assert [s.index for s in steps] == list(range(STEPS))
    assert all(torch.allclose(s.clean.video, clean.video, atol=1e-5) for s in steps)

    def stop(step):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(straight, noise, TIMES, plan, make_solver(SolverKind.EULER, TIMES), stop)


def test_states_are_float32_whatever_the_velocity_is():
    noise = pair(0)
    half = AVPair(video=noise.video.bfloat16(), audio=noise.audio.bfloat16())
    dtypes = []

    def velocity(state, sigma, _):
        dtypes.append((state.video.dtype, sigma.video.dtype))
        return AVPair(video=state.video.bfloat16(), audio=state.audio.bfloat16())

    out = run(velocity, noise=half)
    assert set(dtypes) == {(torch.float32, torch.float32)}
    assert out.audio.dtype == torch.float32


def test_guidance_interval_that_is_empty_or_outside_is_refused():
    with pytest.raises(ConfigError):
        Guidance(intervals=(GuidanceInterval(end=Fraction(1, 2), uncond=None),))
    with pytest.raises(ConfigError):
        Guidance(intervals=())


def test_dropout_drops_what_the_null_passes_leave_out():
    uniform = torch.linspace(0, 1, 1001)[:-1]
    caption, text, interact = Dropout(alone=0.1, no_text=0.05).masks(uniform)
    assert torch.equal(caption, text)
    assert 1 - text.mean().item() == pytest.approx(0.15, abs=2e-3)
    assert 1 - interact.mean().item() == pytest.approx(0.1, abs=2e-3)
    assert (text <= interact).all()
    with pytest.raises(ConfigError):
        Dropout(alone=0.9, no_text=0.2)


def test_dropout_of_one_text_keeps_the_other_and_the_interaction():
    uniform = torch.linspace(0, 1, 1001)[:-1]
    caption, speech, interact = Dropout(alone=0.1, no_text=0.2, no_caption=0.05, no_speech=0.15).masks(uniform)
    kinds = list(zip(caption.tolist(), speech.tolist(), interact.tolist(), strict=True))
    shares = {kind: kinds.count(kind) / len(kinds) for kind in {*kinds}}
    assert shares == {
        (0, 0, 0): pytest.approx(0.1, abs=2e-3),
        (0, 0, 1): pytest.approx(0.2, abs=2e-3),
        (0, 1, 1): pytest.approx(0.05, abs=2e-3),
        (1, 0, 1): pytest.approx(0.15, abs=2e-3),
        (1, 1, 1): pytest.approx(0.5, abs=2e-3),
    }
    with pytest.raises(ConfigError, match="sum to at most 1"):
        Dropout(alone=0.5, no_text=0.2, no_caption=0.2, no_speech=0.2)
