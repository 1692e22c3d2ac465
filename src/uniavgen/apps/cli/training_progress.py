"""The progress bar of everything that is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uniavgen.training.loop import Callback, StepRecord
    from uniavgen.training.state import TrainState
    from uniavgen.training.throughput import SpeedMeter

SHOW_EVERY = 10
"""Steps between two readings of the losses, which wait for the device."""


@contextmanager
def training_progress(num_steps: int, first_step: int = 0, meter: "SpeedMeter | None" = None) -> "Iterator[Callback]":
    """Yields a callback that moves a progress bar, which tells the time left, and shows losses and the speed that
    `meter` measures every SHOW_EVERY steps."""
    from tqdm import tqdm

    with tqdm(total=num_steps, initial=first_step, unit="step", desc="train", smoothing=0.02) as bar:

        def show(record: "StepRecord", _state: "TrainState") -> None:
            # A codec that is resumed begins at a step that only its run knows.
            bar.update(record.step - bar.n)
            if meter is not None:
                meter.add(record)
            if record.step % SHOW_EVERY == 0 or record.step in (1, num_steps):
                losses = " ".join(f"{name} {value:.3g}" for name, value in record.shown_losses.items())
                speed = "" if meter is None else f" | {meter.read()}"
                bar.set_postfix_str(losses + speed, refresh=False)

        yield show
