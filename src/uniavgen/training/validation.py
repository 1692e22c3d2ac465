"""Held-out losses: by task, modality and band of flow time, of the same clips and random numbers at every call.

The loss of a step says little about progress: it is of one task, of other clips and other times than the step before.
Here nothing but the weights changes from call to call, so that two points of a curve compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from uniavgen.data.dataset import TrainingData
from uniavgen.flow.schedule import unshift
from uniavgen.tasks.mixture import StepSpec, sample_step, step_generator
from uniavgen.tasks.table import Task
from uniavgen.training.config import StageConfig, ValidationConfig
from uniavgen.training.loss_weights import LossWeights
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.stage import StageObjective


@dataclass(frozen=True, kw_only=True)
class BandRandomness(SampleRandomness):
    """Random numbers whose flow times, once shifted, are uniform in one of several equal bands; nothing is dropped."""

    band: int
    num_bands: int
    shift: float

    def times(self) -> Float[Tensor, " b"]:
        """Returns t whose shifted time lies in [band, band + 1) / num_bands."""
        return unshift((self.band + super().times()) / self.num_bands, self.shift)

    def dropout(self) -> Float[Tensor, " b"]:
        """Returns the largest numbers below 1, which drop nothing."""
        return torch.full((len(self.samples),), 1 - torch.finfo(torch.float32).eps)


@dataclass(frozen=True, kw_only=True)
class HeldOutLosses:
    """Measures the losses of a model on held-out clips; all processes of a run call it together."""

    objective: StageObjective
    """Of the run: its precision and its processes."""
    data: TrainingData
    """Held-out clips, laid out as those of the run."""
    settings: ValidationConfig

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Returns the mean losses by `TASK/LOSS`, and of each band by `TASK/LOSS/LOW-HIGH`.

        Velocity losses are unweighted means of squared errors, whatever the weights of the stage. They are of the
        objective's model as it is.
        """
        sums: dict[str, Float[Tensor, 2]] = {}
        for task in self._tasks():
            for samples in self._shares():
                batch = self.data.batch(self._spec(task, samples), samples)
                for band in range(self.settings.num_bands):
                    losses = self.objective.clip_losses(batch, self._randomness(samples, band), self._stage)
                    for name, term in losses.named().items():
                        key = f"{task}/{name}/{self._band_name(band)}"
                        added = torch.stack([term.sum.float(), torch.as_tensor(term.count).to(term.sum.device)])
                        sums[key] = sums.get(key, 0) + added
        return self._means(sums)

    @property
    def _stage(self) -> StageConfig:
        # Bands are of the time that sampling gives to both modalities, whatever times they are trained with.
        return replace(self.objective.config.stage, losses=LossWeights(), flow_time="shared", audio_shift=None)

    def _tasks(self) -> list[Task]:
        """Returns the trained tasks."""
        return [task for task in Task if self._stage.tasks.ratios.get(task, 0) > 0]

    def _spec(self, task: Task, samples: Sequence[int]) -> StepSpec:
        """Returns the lengths of a task on clips of one bucket, which are drawn once and for all."""
        clips = self.data.clips
        timing = clips.buckets[clips.locate(samples[0]).bucket].timing
        only = replace(self._stage.tasks, ratios={task: 1.0})
        return sample_step(only, timing, step_generator(self.data.seed, 0))

    def _shares(self) -> list[list[int]]:
        """Returns the samples of this process, one a pass: each process has as many, since all gather weights."""
        context = self.objective.context
        num_clips = sum(self.data.clips.counts)
        num_passes = max(min(self.settings.num_clips, num_clips) // context.world_size, 1)
        return [[number * context.world_size + context.rank] for number in range(num_passes)]

    def _randomness(self, samples: Sequence[int], band: int) -> BandRandomness:
        return BandRandomness(
            seed=self.data.seed,
            samples=samples,
            band=band,
            num_bands=self.settings.num_bands,
            shift=self._stage.shift,
        )

    def _band_name(self, band: int) -> str:
        width = 1 / self.settings.num_bands
        return f"{band * width:.2f}-{(band + 1) * width:.2f}"

    def _means(self, sums: dict[str, Float[Tensor, "2"]]) -> dict[str, float]:
        """Returns sum / count over all processes; losses for which no clip has truth are left out."""
        stacked = torch.stack(list(sums.values()))
        if self.objective.context.world_size > 1:
            dist.all_reduce(stacked)
        totals: dict[str, tuple[float, float]] = {}
        for name, (total, count) in zip(sums, stacked.tolist(), strict=True):
            for key in (name, name.rpartition("/")[0]):
                sum_so_far, count_so_far = totals.get(key, (0.0, 0.0))
                totals[key] = sum_so_far + total, count_so_far + count
        return {name: total / count for name, (total, count) in sorted(totals.items()) if count}
