"""Predicts the memory of a training run on each of its processes, by kind, before any weight is read.

Weights, moments and averages follow from the shapes of the model; activations and gradients from running a step on
tensors without values (`step_count`); what sharding adds follows from how FSDP2 gathers and reduces.
"""

from dataclasses import asdict, dataclass
from functools import cache, cached_property

import torch
from torch import nn

from uniavgen.data.buckets import Bucket
from uniavgen.models.tensor_memory import stored_bytes
from uniavgen.tasks.table import Task
from uniavgen.training.config import TrainConfig
from uniavgen.training.optimizer import build_optimizer
from uniavgen.training.sharding import empty_model, shard_degree
from uniavgen.training.stage import PRECISIONS, select_trained
from uniavgen.training.step_count import DeviceType, StepCount, StepCounter


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes on one process when it holds the most."""

    weights: int
    moments: int
    """Both moments of AdamW."""
    average: int
    """Averaged weights."""
    gathered: int
    """Whole weights of the blocks that are computed or fetched ahead, and buffers that receive them."""
    reduced: int
    """Gradients on their way to the processes that keep them."""
    gradients: int
    """Those that are there at that time: none at the end of the forward pass, all at the end of the backward pass."""
    activations: int

    @property
    def total(self) -> int:
        """The sum of all kinds."""
        return sum(asdict(self).values())


class TrainingModel:
    """The sizes of a run: a model without values, and the processes that train it.

    Raises ConfigError where settings do not fit the model or the processes.
    """

    def __init__(self, config: TrainConfig, world_size: int, device_type: DeviceType = "cuda") -> None:
        self.config, self.world_size = config, world_size
        self.device_type: DeviceType = device_type
        self._model = empty_model(config.model, {})
        select_trained(self._model, config)
        self.degree = shard_degree(config.sharding, self._model.num_parameters(), world_size)
        self._counter = cache(self._build_counter)

    @cached_property
    def weights(self) -> int:
        """Bytes of the weights of the whole model."""
        return stored_bytes(self._model)

    @cached_property
    def trained(self) -> int:
        """Number of parameters that are trained."""
        return sum(parameter.numel() for parameter in self._model.parameters() if parameter.requires_grad)

    @cached_property
    def moments(self) -> int:
        """Bytes of the moments of the whole model."""
        if self.config.optim.moments == "fp32":
            return 8 * self.trained
        optimizer = build_optimizer(self._model, self.config.optim)
        from uniavgen.training.adamw8bit import SkippingAdamW8bit, moment_bytes

        assert isinstance(optimizer, SkippingAdamW8bit)
        return moment_bytes(optimizer)

    @property
    def average(self) -> int:
        """Bytes of the averaged weights of the whole model."""
        return 4 * self.trained if self.config.train.ema else 0

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of a checkpoint, of all processes together; of an adapter's run, it is without the model below."""
        weights = 4 * self.trained if self.config.lora else self.weights
        return weights + self.moments + self.average

    def memory(self, step: StepCount) -> TrainingMemory:
        """Returns the bytes of a process that runs a step."""
        gathered, reduced = self._sharding_buffers()
        return TrainingMemory(
            weights=self.weights // self.degree,
            moments=self.moments // self.degree,
            average=self.average // self.degree,
            gathered=gathered,
            reduced=reduced,
            gradients=step.gradients,
            activations=step.peak - step.gradients,
        )

    def count(self, bucket: Bucket, num_clips: int, task: Task) -> StepCount:
        """Returns what the forward and backward passes of `num_clips` clips take, which go through the model at once or
        one micro batch after the other."""
        micro = self.micro_clips(num_clips)
        return self._counter(micro < num_clips).count(bucket, micro, task)

    def micro_clips(self, num_clips: int) -> int:
        """Returns how many of the clips of a process go through the model at once."""
        return min(self.config.train.micro_batch_size or num_clips, num_clips)

    def _build_counter(self, accumulates: bool) -> StepCounter:
        held = 4 * self.trained // self.degree if accumulates else 0
        return StepCounter(self.config, self.device_type, self.degree, held)

    def _sharding_buffers(self) -> tuple[int, int]:
        """Returns the bytes of gathered weights and of gradients on their way, none for a single process."""
        if self.world_size == 1:
            return 0, 0
        model, settings = self._model, self.config.sharding
        dtype = (PRECISIONS[self.config.train.precision] if self.degree > 1 else None) or torch.float32
        blocks = [_num_elements(block) for block in model.blocks]
        largest, trained = max(blocks), max(_num_elements(block, trained_only=True) for block in model.blocks)
        root = _num_elements(model) - sum(blocks)
        if settings.reshard_after_forward and self.degree > 1:
            # The block that is computed, those that are fetched, and the buffer that the first of them came in.
            elements = root + (2 + settings.prefetch_blocks) * largest
        else:
            elements = root + sum(blocks) + largest
        # Gradients of a block as they are computed, and those of two in float32, of which one is still on its way.
        return elements * dtype.itemsize, trained * (dtype.itemsize + 2 * 4)


def _num_elements(module: nn.Module, trained_only: bool = False) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad or not trained_only)
