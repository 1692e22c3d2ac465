"""Batches in the order of steps, read ahead by any number of processes without a change in what comes."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from uniavgen.data.dataset import Batch, TrainingData
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.tasks.mixture import MixtureConfig, sample_step, step_generator


@dataclass(frozen=True, kw_only=True)
class StepDataset(Dataset[Batch]):
    """This process's batch of each step (from 0). The task and its lengths are sampled once a step, alike on all
    ranks."""

    data: TrainingData
    mixture: MixtureConfig
    seed: int
    batch_size: int
    """Over all processes."""
    context: ParallelContext = SINGLE_PROCESS

    def __getitem__(self, step: int) -> Batch:
        spec = sample_step(self.mixture, self.data.timing, step_generator(self.seed, step))
        return self.data.batch(spec, self.context.sample_indices(step, self.batch_size))


def load_batches(dataset: StepDataset, first: int, last: int, workers: int = 0) -> Iterator[Batch]:
    """Yields the batches of the steps `first` to `last` - 1."""
    if workers == 0:
        return (dataset[step] for step in range(first, last))
    # batch_size=None: an item of the data set is a whole batch already.
    loader = DataLoader(dataset, sampler=range(first, last), batch_size=None, num_workers=workers, prefetch_factor=2)
    return iter(loader)
