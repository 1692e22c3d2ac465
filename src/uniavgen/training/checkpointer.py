"""Writes checkpoints while training goes on: each process its own shards, and the folder appears when all is there."""

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult

from uniavgen.artifacts import checksum, not_written, partial_path, path_exists, publish
from uniavgen.distributed import any_process, raise_first_error
from uniavgen.errors import OutputError, TrainingError, UniAVGenError
from uniavgen.training.checkpoint_files import (
    MODEL,
    PREFIX,
    SETTINGS,
    CheckpointRecord,
    checkpoints,
    quiet_single_process,
    remove_old,
)
from uniavgen.training.state import TrainState, first_not_finite

logger = logging.getLogger(__name__)
FILE_BYTES: Final = 2**30
"""Of one file, about; it is put together in memory before it is written."""


class CheckpointWriter(dcp.HuggingFaceStorageWriter):
    """Writes the files of a checkpoint into a hidden folder, which gets its name when all processes are done."""

    def __init__(self, final: Path, keep: int, record: CheckpointRecord, files: Mapping[str, int]) -> None:
        super().__init__(str(partial_path(final)), fqn_to_index_mapping=dict(files), save_distributed=True)
        self.final, self.keep, self.record = final, keep, record

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "torch.futures.Future[list[WriteResult]]":
        """Writes this process's files; their checksums come back with the results, in place of offsets."""
        results: list[WriteResult] = super().write_data(plan, planner).wait()
        checksums: dict[str, str] = {}
        for name in {result.storage_data.relative_path for result in results}:
            file = Path(self.path) / name
            _sort_metadata(file)
            checksums[name] = checksum(file)
        future: torch.futures.Future[list[WriteResult]] = torch.futures.Future()
        summed = [(result, result.storage_data.relative_path) for result in results]
        future.set_result([replace(result, storage_data=(name, checksums[name])) for result, name in summed])
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Completes and names the folder, on the first process, once all have written."""
        super().finish(metadata, results)
        files = dict(sorted(result.storage_data for written in results for result in written))
        partial = Path(self.path)
        (partial / SETTINGS).write_text(json.dumps(asdict(replace(self.record, files=files)), indent=1) + "\n")
        publish(partial, self.final)
        remove_old(self.final.parent, self.keep)


def _sort_metadata(file: Path) -> None:
    """Puts the metadata of a safetensors file in order: the library writes it in another one each time."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length)
        content = json.loads(header)
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
        ordered = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        assert len(ordered) == length, "JSON was not written in its shortest form"
        opened.seek(8)
        opened.write(ordered)


@dataclass(kw_only=True)
class Checkpointer:
    """Saves a run in `folder`, one checkpoint at a time, while training goes on.

    All processes of a run make one and call its methods after the same steps.
    """

    folder: Path
    keep: int
    """Complete checkpoints that stay; older ones are deleted."""
    settings: Mapping[str, Any]
    """Resolved settings, kept beside the weights."""
    samples: Mapping[str, Any] = field(default_factory=dict)
    """What decides which samples a step draws, see `restore`."""

    def __post_init__(self) -> None:
        self._pending: tuple[Path, Future[Any]] | None = None
        # Of its own: on a shared group, collectives of the next step would meet those of the thread that writes.
        is_parallel = dist.is_initialized() and dist.get_world_size() > 1
        self.group: dist.ProcessGroup | None = None
        if is_parallel:
            group = dist.new_group(backend="gloo")
            assert isinstance(group, dist.ProcessGroup), "this process is in no group"
            self.group = group

    @property
    def _is_main(self) -> bool:
        return self.group is None or dist.get_rank(self.group) == 0

    def start(self, state: TrainState) -> None:
        """Copies the state and begins to write it, once an earlier checkpoint is complete.

        Raises TrainingError where a value is not finite, and writes nothing then; OutputError where the folder cannot
        be made. An earlier checkpoint that could not be written is a warning.
        """
        self.finish_quietly()
        final = self.path(state)
        if any_process(self._is_main and path_exists(final)):
            return
        tensors = state.local_tensors()
        raise_first_error(self._prepare(tensors, state.step), self.group)
        record = CheckpointRecord(step=state.step, settings=self.settings, samples=self.samples, files={})
        writer = CheckpointWriter(final, self.keep, record, self._file_numbers(tensors))
        quiet_single_process()
        pending = dcp.async_save(tensors, storage_writer=writer, process_group=self.group, no_dist=self.group is None)
        assert isinstance(pending, Future)
        self._pending = (final, pending)

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint and waits until it is complete. Raises what `start` raises, and what `finish` does."""
        self.start(state)
        self.finish()

    def finish(self) -> None:
        """Waits until the checkpoint that is being written is complete; raises OutputError where it could not be."""
        if self._pending is None:
            return
        (final, pending), self._pending = self._pending, None
        error = pending.exception()
        if error is None:
            return
        causes = [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
        if self._is_main:
            shutil.rmtree(partial_path(final), ignore_errors=True)
        refused = next((cause for cause in causes if isinstance(cause, OSError)), None)
        if refused is None:
            # Not CheckpointException, which is no Exception and would pass by whoever handles errors.
            raise causes[0]
        raise not_written(final, refused) from refused

    def finish_quietly(self, *, wait: bool = True) -> None:
        """Does what `finish` does, but warns where it raises, because training can go on without a checkpoint.

        wait: otherwise nothing happens while the checkpoint is still being written.
        """
        if self._pending is None or not (wait or self._pending[1].done()):
            return
        try:
            self.finish()
        except OutputError as error:
            if self._is_main:
                saved = checkpoints(self.folder)
                last = f"the last complete checkpoint is {saved[-1].name}" if saved else "there is no checkpoint yet"
                logger.warning("%s; training goes on, and %s", error, last)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, error_class: type[BaseException] | None, *_: object) -> None:
        """Completes the checkpoint that is being written, also where training ends with an error."""
        if error_class is None:
            self.finish_quietly()
        elif self._pending is not None:
            # What it raises, such as another process that is gone, would hide the error.
            self._pending[1].exception()

    def path(self, state: TrainState) -> Path:
        """Returns the folder of the checkpoint after the present step."""
        return self.folder / f"{PREFIX}{state.step:08d}"

    def _prepare(self, tensors: Mapping[str, Tensor], step: int) -> UniAVGenError | None:
        """Makes an empty hidden folder. Returns an error where there can be none, or where weights are not finite."""
        name = first_not_finite(tensors)
        if name is not None:
            return TrainingError(
                f"the weights are not finite after step {step} (first {name.removeprefix(MODEL)}) and are not saved; "
                "lower the learning rate or check the data"
            )
        partial = partial_path(self.folder / f"{PREFIX}{step:08d}")
        try:
            if self._is_main:
                # What a killed process has left is gone already, unless it ran on another machine.
                if path_exists(partial):
                    shutil.rmtree(partial)
                partial.mkdir(parents=True)
        except OSError as error:
            return not_written(partial, error)
        return None

    def _file_numbers(self, tensors: Mapping[str, Tensor]) -> dict[str, int]:
        """Returns name to number (from 1) of the file of each process that holds its share of a tensor."""
        most = FILE_BYTES * (1 if self.group is None else dist.get_world_size(self.group))
        sizes = [tensor.numel() * tensor.element_size() for tensor in tensors.values()]
        return {name: 1 + before // most for name, before in zip(tensors, accumulate(sizes, initial=0), strict=False)}
