"""Curves are written at once; a disk without room costs curves and no training."""

import logging
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import config, run

from uniavgen.errors import DataError, OutputError
from uniavgen.training.curves import open_curves
from uniavgen.workflows.train import WatchedRun, train_stage


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets no file grow beyond `size` bytes, as a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def recorded_steps(folder: Path) -> list[int]:
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("loss")]


@pytest.mark.parametrize("size", [0, 1, 20])
def test_curves_without_room_for_their_first_bytes_are_refused(tmp_path, size):
    with (
        largest_file(size),
        pytest.raises(OutputError, match="curves could not be written: file too large; free"),
        open_curves(tmp_path / "out" / "curves"),
    ):
        pass
    assert not [*tmp_path.iterdir()]


def test_curves_that_run_out_of_room_are_one_warning_and_go_on_with_room(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), open_curves(tmp_path) as writer:
        writer.add_scalars({"loss": 1.0}, 1)
        with largest_file(130):
            for step in range(2, 20):
                writer.add_scalars({"loss": 1.0}, step)
        writer.add_scalars({"loss": 1.0}, 20)
    (warning,) = caplog.messages
    assert "could not be written at step" in warning
    steps = recorded_steps(tmp_path)
    assert steps[0] == 1
    assert steps[-1] == 20
    assert len(steps) < 20


def test_curves_are_readable_while_training_goes_on(tmp_path):
    with open_curves(tmp_path) as writer:
        writer.add_scalars({"loss": 1.0}, 1)
        assert recorded_steps(tmp_path) == [1]


def test_curves_of_a_run_that_ends_before_its_first_step_leave_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError), open_curves(tmp_path / "out" / "curves"):
        raise DataError("the first sample is damaged")
    assert not [*(tmp_path / "out").iterdir()]


def test_training_goes_on_where_curves_cannot_be_written(folder, tmp_path, caplog):
    one = run(folder, tmp_path, config("train.steps=3", "train.log_every=1"))
    with caplog.at_level(logging.WARNING):
        assert train_stage(
            WatchedRun(stage=one), tmp_path, callbacks=[lambda *_: shutil.rmtree(tmp_path / "curves", True)]
        )
    assert len(caplog.messages) == 1
    assert (tmp_path / "transformer" / "config.json").is_file()
