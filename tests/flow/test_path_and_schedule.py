import pytest
import torch

from uniavgen.batch import AVPair
from uniavgen.config import parse
from uniavgen.errors import ConfigError
from uniavgen.flow.choices import Spacing
from uniavgen.flow.path import interpolate, predict_clean, target_velocity
from uniavgen.flow.schedule import ScheduleConfig, shift, sigmas


def pair(seed):
    generator = torch.Generator().manual_seed(seed)
    return AVPair(
        video=torch.randn(2, 3, 5, 2, 2, generator=generator, dtype=torch.float64),
        audio=torch.randn(2, 7, 4, generator=generator, dtype=torch.float64),
    )


def close(a, b, tolerance=1e-12):
    assert torch.allclose(a.video, b.video, atol=tolerance)
    assert torch.allclose(a.audio, b.audio, atol=tolerance)


def test_path_ends_derivative_and_round_trip():
    clean, noise = pair(0), pair(1)
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    close(interpolate(clean, noise, torch.zeros_like(t)), clean)
    close(interpolate(clean, noise, torch.ones_like(t)), noise)
    step = 1e-3
    slope = (interpolate(clean, noise, t + step) - interpolate(clean, noise, t)) * (1 / step)
    close(slope, target_velocity(clean, noise), 1e-9)
    close(predict_clean(interpolate(clean, noise, t), target_velocity(clean, noise), t), clean)


def test_sigmas_equal_the_releases_schedule():
    values = sigmas(50, ScheduleConfig()).video
    assert values.dtype == torch.float32
    assert len(values) == 51
    assert (values[0], values[-1]) == (1.0, 0.0)
    assert (values.diff() < 0).all()
    # Raw times are linspace(1000, 1, 50): step 25 stands at t 0.49 and sigma 0.83 (reference facts on the release).
    assert shift(values[25], 1 / 5.0).item() == pytest.approx(1 - 25 / 49 * 0.999, abs=1e-5)
    assert values[25].item() == pytest.approx(0.83, abs=5e-3)
    assert values[49].item() == pytest.approx(5 * 0.001 / 1.004, rel=1e-5)


def test_trailing_steps_are_even_before_the_shift_and_reach_0():
    values = sigmas(8, ScheduleConfig(spacing=Spacing.TRAILING)).video
    assert torch.allclose(
        shift(values.double(), 1 / 5.0).diff(), torch.full((8,), -1 / 8, dtype=torch.float64), atol=1e-6
    )
    # The release's eight steps are seven of these, and one that is over before it began.
    fewer, release = sigmas(7, ScheduleConfig(spacing=Spacing.TRAILING)).video, sigmas(8, ScheduleConfig()).video
    assert torch.allclose(release[:-2], fewer[:-1], atol=5e-3)
    assert release[-2] < 0.006


def test_shift_keeps_the_ends_and_inverts():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(shift(shift(t, 5.0), 1 / 5.0), t)
    assert shift(t, 5.0)[[0, -1]].tolist() == [0.0, 1.0]
    assert torch.equal(shift(t, 1.0), t)


def test_shift_of_the_audio_moves_its_times_alone():
    same, other = sigmas(6, ScheduleConfig(shift=3.0)), sigmas(6, ScheduleConfig(shift=3.0, audio_shift=5.0))
    assert torch.equal(same.video, same.audio)
    assert torch.equal(other.video, same.video)
    assert torch.equal(other.audio, sigmas(6, ScheduleConfig(shift=5.0)).video)


def test_schedule_of_one_step_and_of_bad_settings():
    for spacing in Spacing:
        assert sigmas(1, ScheduleConfig(spacing=spacing)).video.tolist() == [1.0, 0.0]
    with pytest.raises(ConfigError):
        sigmas(0, ScheduleConfig())
    with pytest.raises(ConfigError):
        parse(ScheduleConfig, {"shift": 0.0})
