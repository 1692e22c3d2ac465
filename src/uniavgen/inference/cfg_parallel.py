"""CFG parallelism: groups of processes share the guidance passes of a sampling step.

The groups exchange nothing but the velocities of their passes. Guidance has two passes at most, so an even number of
processes forms two groups; the processes of one group share the video tokens (`models.sequence_parallel`).

    torchrun --nproc-per-node 2 --no-python uniavgen generate ...

Letters: b batch.
"""

from collections.abc import Sequence

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from uniavgen.batch import AVPair
from uniavgen.distributed import CFG_DIM, ParallelContext
from uniavgen.flow.guidance import Pass
from uniavgen.flow.sampling import VelocityFunction


def cfg_parallel(velocity: VelocityFunction, parallel: ParallelContext) -> VelocityFunction:
    """Returns `velocity` with the passes of a step spread over the groups along `CFG_DIM`; itself for one group."""
    mesh = parallel.sub_mesh(CFG_DIM)
    return velocity if mesh is None else _CFGParallelVelocity(velocity, mesh)


class _CFGParallelVelocity:
    """A `VelocityFunction` that runs every n-th pass of a step and receives the others from other processes."""

    def __init__(self, velocity: VelocityFunction, mesh: DeviceMesh) -> None:
        self._velocity, self._group = velocity, mesh.get_group()
        self._rank, self._size = mesh.get_local_rank(), mesh.size()

    def __call__(self, state: AVPair, sigma: AVPair, passes: tuple[Pass, ...]) -> Sequence[AVPair]:
        local_passes = passes[self._rank :: self._size]
        local = iter(self._velocity(state, sigma, local_passes) if local_passes else ())
        # A process that did not run a pass receives its velocity into tensors of the state's shape.
        return [
            self._broadcast(next(local) if index % self._size == self._rank else state, source=index % self._size)
            for index in range(len(passes))
        ]

    def _broadcast(self, velocity: AVPair, source: int) -> AVPair:
        """Returns the velocity of the process `source` of the group."""
        # gloo and NCCL need contiguous tensors, and float32 is what the solver computes in.
        video, audio = (part.float().contiguous().clone() for part in (velocity.video, velocity.audio))
        for part in (video, audio):
            dist.broadcast(part, group=self._group, group_src=source)
        return AVPair(video=video, audio=audio)
