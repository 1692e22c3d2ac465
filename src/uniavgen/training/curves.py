"""The curves of a run: losses, pictures and sounds in a TensorBoard file, and the numbers in a log of JSON lines."""

import io
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from uniavgen.artifacts import not_written, os_error_text
from uniavgen.errors import ConfigError

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

from uniavgen.training.step_log import StepLog

logger = logging.getLogger(__name__)

LOG_FILE: Final = "log.jsonl"


class CurveWriter:
    """Appends records to a new TensorBoard file; see `open_curves`.

    It writes in the calling thread. `SummaryWriter` of torch writes in one of its own, where a full disk ends in a
    traceback and in an error at any later call.
    """

    def __init__(self, file: Path, log: StepLog) -> None:
        self._file = file
        self._log = log
        self._size = 0
        """Bytes of complete records."""
        self._has_warned = False
        self.is_empty = True

    def start(self) -> None:
        """Creates the file with the record that begins every TensorBoard file. Raises OSError."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Records numbers by the names of their curves, in the log too."""
        from torch.utils.tensorboard.summary import scalar

        if values:
            self._add([scalar(name, value) for name, value in values.items()], step)
            self._log.add(step, values)

    def add_image(self, name: str, image: Shaped[np.ndarray, "H W *c"], step: int) -> None:
        """Records a picture: uint8, or float in [0, 1]."""
        from torch.utils.tensorboard.summary import image as image_summary

        self._add([image_summary(name, image, dataformats="HW" if image.ndim == 2 else "HWC")], step)

    def add_animation(self, name: str, frames: UInt8[np.ndarray, "F H W 3"], fps: Fraction, step: int) -> None:
        """Records frames as a picture that moves, a GIF, which TensorBoard plays."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        first, *others = (Image.fromarray(frame) for frame in frames)
        content = io.BytesIO()
        # In milliseconds; the format itself has hundredths of a second.
        first.save(content, "gif", save_all=True, append_images=others, duration=float(1000 / fps), loop=0)
        height, width = frames.shape[1:3]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content.getvalue())
        self._add([Summary(value=[Summary.Value(tag=name, image=image)])], step)

    def add_audio(self, name: str, waveform: Float[np.ndarray, " samples"], rate_hz: int, step: int) -> None:
        """Records a mono sound in [-1, 1]."""
        from torch.utils.tensorboard.summary import audio

        self._add([audio(name, waveform, sample_rate=rate_hz)], step)

    def _add(self, summaries: "list[Summary]", step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [value for summary in summaries for value in summary.value]
        try:
            self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
            self.is_empty = False
        except OSError as error:
            # The weights are worth more than their curves.
            if not self._has_warned:
                logger.warning(
                    "the curves in %s could not be written at step %d: %s; training goes on, and the curves lack "
                    "what does not fit",
                    self._file.parent,
                    step,
                    os_error_text(error),
                )
            self._has_warned = True

    def _append(self, event: "Event") -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        with self._file.open("ab") as file:
            # What an earlier call could write of a record would hide all that follows.
            file.truncate(self._size)
            file.write(record.getvalue())
        self._size += len(record.getvalue())


@contextmanager
def open_curves(folder: Path, step: int = 0) -> Iterator[CurveWriter]:
    """Yields a writer of a new TensorBoard file in `folder`, and of its `log.jsonl`; a file without curves is removed.

    step: steps that the run has done; those behind it in the log, which are done again, are removed from it.
    What cannot be written later is one warning. Raises ConfigError where TensorBoard is not installed, OutputError
    where `folder` cannot be written from the start.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError("TensorBoard is not installed; pip install 'uniavgen[train]'") from error
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    # The name that TensorBoard looks for and sorts by.
    file = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    writer = CurveWriter(file, StepLog(folder / LOG_FILE, step))
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writer.start()
        except OSError as error:
            raise not_written(folder, error) from error
        yield writer
    finally:
        if writer.is_empty:
            _remove(file, new_folders)


def _remove(file: Path, folders: list[Path]) -> None:
    """Deletes a file, and those of `folders` (inner ones first) that are empty then."""
    if file.parent.is_dir():
        file.unlink(missing_ok=True)
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
