"""What a run says about its data: damaged clips, and the time that steps wait for their batches, of all processes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
import torch.distributed as dist

from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import DataError
from uniavgen.training.objective import DataReport

logger = logging.getLogger(__name__)

_MIN_CLIPS: Final = 1000
"""Of the first so many clips, or of all in a smaller set, the share is taken as if they had been read. [ours]"""
_MAX_WARNINGS: Final = 20


@dataclass(kw_only=True)
class DataWatch:
    """Counts the damaged clips of a run since it was started or resumed.

    All processes report every step together, and end together.
    """

    max_damaged_share: float
    num_clips: int
    """In the data."""
    context: ParallelContext = SINGLE_PROCESS
    _num_read: int = 0
    _num_damaged: int = 0
    _found: dict[str, int] = field(default_factory=dict)
    """What was wrong with clips of this process, and how often each was drawn."""

    def report(self, damaged: Sequence[str], num_read: int, wait_s: float) -> DataReport:
        """Adds the batch of a step.

        damaged: what is wrong with each of its damaged clips. num_read: all clips that were read for it, with those.
        wait_s: how long this process waited for it.

        Raises DataError, which names a file, where the share of damaged clips is above the limit.
        """
        for message in damaged:
            self._warn(message)
        num_damaged, num_read, waits = self._exchanged(len(damaged), num_read, wait_s)
        self._num_damaged += num_damaged
        self._num_read += num_read
        if self._num_damaged > self.max_damaged_share * max(self._num_read, min(self.num_clips, _MIN_CLIPS)):
            raise DataError(
                f"{self._num_damaged} of the {self._num_read} clips that were read are damaged, which is more than "
                f"data.max_damaged_share = {self.max_damaged_share:g} allows; first {self._first_found()}"
            )
        slowest = max(range(len(waits)), key=waits.__getitem__)
        return DataReport(num_damaged=self._num_damaged, wait_s=waits[slowest], slowest_process=slowest)

    def _warn(self, message: str) -> None:
        self._found[message] = self._found.get(message, 0) + 1
        if self._found[message] == 1 and len(self._found) <= _MAX_WARNINGS:
            logger.warning("%s; another clip takes its place", message)

    def _exchanged(self, num_damaged: int, num_read: int, wait_s: float) -> tuple[int, int, list[float]]:
        """Returns the sums of both counts, and the times of all processes.

        These numbers are the host's, so that no GPU is waited for.
        """
        if self.context.world_size == 1:
            return num_damaged, num_read, [wait_s]
        local = torch.tensor([num_damaged, num_read, wait_s], dtype=torch.float64)
        everywhere = [torch.empty_like(local) for _ in range(self.context.world_size)]
        dist.all_gather(everywhere, local)
        damaged, read, waits = torch.stack(everywhere).T.tolist()
        return int(sum(damaged)), int(sum(read)), waits

    def _first_found(self) -> str:
        """Returns what was wrong with the first damaged clip of any process. All processes call it."""
        local = next(iter(self._found), None)
        found: list[str | None] = [local] * self.context.world_size
        if self.context.world_size > 1:
            dist.all_gather_object(found, local)
        return next(message for message in found if message is not None)
