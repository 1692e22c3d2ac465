"""What the training loop is given: a model, the batch of each step, and the losses of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

BatchT = TypeVar("BatchT")


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """How the data of a step came."""

    num_damaged: int = 0
    """Damaged clips since the run was started or resumed, over all processes; each was replaced by another."""
    num_clips: int = 0
    """Clips of the step over all processes; 0 where the objective does not count them."""
    num_tokens: int = 0
    """Their video and audio tokens."""
    wait_s: float
    """Seconds that the step waited for its batch, in the process that waited longest."""
    slowest_process: int = 0
    """Rank of that process."""
    epoch: int = 0
    """How often the clips of the batch's bucket were all drawn before; see `dataset.Batch.epoch`."""


class Objective(ABC, Generic[BatchT]):
    """A model and what it is trained on.

    Where `batch` is a function of the step alone, a run that was interrupted and resumed equals one that was not.
    """

    model: nn.Module

    @abstractmethod
    def batch(self, step: int) -> BatchT:
        """Returns the batch of a step (from 0)."""

    @abstractmethod
    def losses(self, batch: BatchT, step: int) -> dict[str, Tensor]:
        """Returns named scalar losses; the one named `total` is minimised.

        May not read values of tensors on the model's device: the loop would wait for it at every step.
        """

    def backward(self, batch: BatchT, step: int) -> dict[str, Tensor]:
        """Adds the gradients of a step to those that the parameters hold, and returns the losses without gradient."""
        losses = self.losses(batch, step)
        losses["total"].backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def batches(self, first: int, last: int) -> Iterator[BatchT]:
        """Yields the batches of the steps `first` to `last` - 1."""
        return (self.batch(step) for step in range(first, last))

    def task(self, batch: BatchT) -> str:
        """Returns the name under which the losses of a batch are also logged apart; empty for none."""
        del batch
        return ""

    def report_data(self, batch: BatchT, wait_s: float) -> DataReport:
        """Says how the batch of a step came, for which this process has waited `wait_s`. All processes call it."""
        del batch
        return DataReport(wait_s=wait_s)

    def clip_groups(self) -> Sequence[nn.Module]:
        """Returns the parts of the model whose gradients are clipped apart, because each has a loss of its own."""
        return (self.model,)
