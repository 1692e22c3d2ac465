"""Batches in the order of steps, read ahead by any number of processes without a change in what comes."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from uniavgen.data.dataset import Batch, TrainingData
from uniavgen.tasks.mixture import MixtureConfig, sample_step, step_generator
from uniavgen.training.parallel import SINGLE, World


@dataclass(frozen=True, kw_only=True)
class StepDataset(Dataset[Batch]):
    """Step (from 0) to this process's batch. The task and its lengths are drawn once a step, equal on all ranks."""

    data: TrainingData
    mixture: MixtureConfig
    seed: int
    batch_size: int
    world: World = SINGLE

    def __getitem__(self, step: int) -> Batch:
        drawn = sample_step(self.mixture, self.data.timing, step_generator(self.seed, step))
        return self.data.batch(drawn, self.world.sample_indices(step, self.batch_size))


def load_batches(steps: StepDataset, first: int, last: int, workers: int = 0) -> Iterator[Batch]:
    """Batches of the steps `first` to `last` - 1."""
    if workers == 0:
        return (steps[step] for step in range(first, last))
    loader = DataLoader(steps, sampler=range(first, last), batch_size=None, num_workers=workers, prefetch_factor=2)
    return iter(loader)
