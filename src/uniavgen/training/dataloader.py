"""Batches in the order of steps, read ahead by any number of processes without a change in what comes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from uniavgen.batch import TextInputs
from uniavgen.data.dataset import Batch, TrainingData
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import UniAVGenError
from uniavgen.tasks.mixture import MixtureConfig, sample_step, step_generator


@dataclass(frozen=True, kw_only=True)
class StepDataset(Dataset[Batch]):
    """This process's batch of each step (from 0). The bucket, the task and its lengths are drawn once a step, alike on
    all ranks."""

    data: TrainingData
    mixture: MixtureConfig
    seed: int
    context: ParallelContext = SINGLE_PROCESS

    def __getitem__(self, step: int) -> Batch:
        clips = self.data.clips
        timing = clips.buckets[clips.schedule.bucket(step)].timing
        spec = sample_step(self.mixture, timing, step_generator(self.seed, step))
        return self.data.batch(spec, self.samples(step))

    def samples(self, step: int) -> range:
        """Returns the global numbers of this process's samples of a step."""
        return self.context.share(self.data.clips.schedule.samples(step))


@dataclass(frozen=True)
class _BatchOrError(Dataset[Batch | UniAVGenError]):
    """What a worker sends: an error as a value, because the loader would put a traceback into its message."""

    dataset: StepDataset

    def __getitem__(self, step: int) -> Batch | UniAVGenError:
        try:
            return self.dataset[step]
        except UniAVGenError as error:
            return error


def micro_batches(batch: Batch, size: int) -> list[Batch]:
    """Returns the clips of a batch in parts of at most `size`."""
    num_clips = batch.mel.shape[0]
    return [_clips(batch, slice(first, first + size)) for first in range(0, num_clips, size)]


def _clips(value: Any, chosen: slice) -> Any:
    """Returns the chosen clips of every tensor in a dataclass."""
    if isinstance(value, Tensor):
        return value[chosen]
    if isinstance(value, Batch | TextInputs):
        return replace(value, **{each.name: _clips(getattr(value, each.name), chosen) for each in fields(value)})
    return value


def load_batches(
    dataset: StepDataset, first: int, last: int, workers: int = 0, *, prefetch: int = 2, pin: bool = False
) -> Iterator[Batch]:
    """Yields the batches of the steps `first` to `last` - 1.

    Workers live as long as the iterator, which is a whole run. prefetch: batches that each reads ahead. pin: a thread
    copies batches into pinned memory, from which they go to a GPU while it computes.
    """
    # batch_size=None: an item of the data set is a whole batch already.
    loader = DataLoader(
        _BatchOrError(dataset),
        sampler=range(first, last),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=_leave_process_group,
        # The default one would be drawn from.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, UniAVGenError):
            raise batch
        yield batch


def _leave_process_group(_worker: int) -> None:
    """Leaves Ctrl-C and preemption, which go to groups of processes, to the training process, which ends its workers.

    Workers that ignored SIGTERM would not end where that process fails and sends it to them.
    """
    os.setpgid(0, 0)
