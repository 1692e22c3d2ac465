"""Held-out losses: bands of flow time, the same numbers at every call, and what they are means of."""

from dataclasses import replace

import pytest
import torch
from tiny_run import run, write_features

from uniavgen.errors import DataError
from uniavgen.flow.schedule import shift
from uniavgen.tasks.table import Task
from uniavgen.training.config import ValidationConfig
from uniavgen.training.stage import build_held_out_data
from uniavgen.training.validation import BandRandomness, HeldOutLosses

NUM_BANDS = 2


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> HeldOutLosses:
    folder = tmp_path_factory.mktemp("held-out")
    objective = run(write_features(folder / "data"), folder).objective
    objective.model.eval()
    data = build_held_out_data(objective.dataset.data, write_features(folder / "others"), objective.config.model)
    settings = ValidationConfig(every=1, num_clips=3, num_bands=NUM_BANDS)
    return HeldOutLosses(objective=objective, data=data, settings=settings)


@pytest.mark.parametrize("band", range(4))
def test_flow_times_of_a_band_lie_in_it_after_the_shift(band):
    randomness = BandRandomness(seed=0, samples=range(64), band=band, num_bands=4, shift=5.0)
    sigma = shift(randomness.times(), 5.0)
    assert float(sigma.min()) >= band / 4 - 1e-6
    assert float(sigma.max()) <= (band + 1) / 4 + 1e-6
    assert float(sigma.std()) == pytest.approx(0.25 / 12**0.5, rel=0.25)


def test_held_out_losses_are_the_same_at_every_call_and_leave_random_numbers_alone(held_out):
    before = torch.get_rng_state()
    first = held_out()
    assert first == held_out()
    assert torch.equal(torch.get_rng_state(), before)
    assert {name.partition("/")[0] for name in first} == {
        "joint", "reference_audio", "continuation", "dubbing", "animation"
    }  # fmt: skip
    assert "dubbing/video" not in first
    assert "animation/audio" not in first


def test_held_out_loss_is_the_mean_of_its_bands(held_out):
    losses = held_out()
    bands = [losses[f"joint/video/{low:.2f}-{low + 0.5:.2f}"] for low in (0.0, 0.5)]
    assert losses["joint/video"] == pytest.approx(sum(bands) / NUM_BANDS)
    assert bands[0] != bands[1]


def test_held_out_losses_are_those_of_a_step_with_the_same_random_numbers(held_out):
    spec = held_out._spec(Task.JOINT, [0])
    stage = held_out._stage
    sums = [0.0, 0.0]
    for sample in range(3):
        for band in range(NUM_BANDS):
            randomness = BandRandomness(seed=0, samples=[sample], band=band, num_bands=NUM_BANDS, shift=stage.shift)
            with torch.no_grad():
                term = held_out.objective.clip_losses(held_out.data.batch(spec, [sample]), randomness, stage).audio
            sums = [sums[0] + float(term.sum), sums[1] + float(term.count)]
    assert held_out()["joint/audio"] == pytest.approx(sums[0] / sums[1])


def test_held_out_features_of_another_size_are_refused(held_out):
    other = replace(held_out.objective.config.model, audio=replace(held_out.objective.config.model.audio, mel_bins=9))
    folder = held_out.data.sources[0].folder
    with pytest.raises(DataError, match="mel bins, the model expects 9"):
        build_held_out_data(held_out.objective.dataset.data, folder, other)
