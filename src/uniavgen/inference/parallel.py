"""Several GPUs for one clip: a process each, all with the whole model; they share the passes of a step, or the picture.

Sharing passes costs nothing but an exchange of velocities, and there are two of them; so an even number of processes
forms two groups, one a pass. The processes of a group share the picture: each has a part of the tokens of every latent
frame, and all of the audio. Modulation and a2v need nothing from elsewhere; self-attention exchanges tokens for heads
(Ulysses); v2a gathers the frames' keys and values, which are of the audio branch's width. Results differ from those of
one process by rounding only.

    torchrun --nproc-per-node 2 --no-python uniavgen generate ...

Letters: b batch, f latent frames, n video tokens of one, d width.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from uniavgen.batch import AVPair
from uniavgen.errors import ConfigError
from uniavgen.flow.guidance import Pass
from uniavgen.flow.sampling import Velocity
from uniavgen.models.interaction.layer import Record
from uniavgen.models.rotary import Rotary
from uniavgen.models.transformer import ForwardPass, UniAVGenTransformer

if TYPE_CHECKING:
    from torch import nn

PASSES, RING, PICTURE = "passes", "ring", "ulysses"
"""Dimensions of the mesh; the names of the last two are diffusers'."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of a run, as a mesh of `passes` x 1 x `picture`."""

    mesh: DeviceMesh

    @classmethod
    def arrange(cls, device_type: str, pass_groups: int | None = None) -> "Processes":
        """All processes of the default group; two groups of passes if their number is even."""
        count = dist.get_world_size()
        pass_groups = pass_groups or (2 if count % 2 == 0 else 1)
        shape = (pass_groups, 1, count // pass_groups)
        return cls(mesh=init_device_mesh(device_type, shape, mesh_dim_names=(PASSES, RING, PICTURE)))

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return dist.get_rank() == 0

    def share_picture(self, transformer: UniAVGenTransformer) -> None:
        """Make the processes of a group share every forward pass of this transformer, in place."""
        if self.mesh[PICTURE].size() > 1:
            PictureSharing(self.mesh).install(transformer)

    def share_passes(self, velocity: Velocity) -> Velocity:
        """`velocity` with the passes of a step spread over the groups."""
        return SharedPasses(velocity, self.mesh[PASSES]) if self.mesh[PASSES].size() > 1 else velocity


@contextmanager
def joined() -> Iterator[str | None]:
    """Join the processes that torchrun started, for the time of the context; yields the device of this one.

    None where this process runs alone.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield None
        return
    on_gpu = torch.cuda.is_available()
    local = int(os.environ["LOCAL_RANK"])
    if on_gpu and local >= torch.cuda.device_count():
        raise ConfigError(f"{count} processes need a GPU each, here are {torch.cuda.device_count()}; start fewer")
    device = f"cuda:{local}" if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


class SharedPasses:
    """A `flow.sampling.Velocity` that runs every n-th pass of a step and takes the others from other processes."""

    def __init__(self, velocity: Velocity, mesh: DeviceMesh) -> None:
        self._velocity, self._group = velocity, mesh.get_group()
        self._rank, self._size = mesh.get_local_rank(), mesh.size()

    def __call__(self, state: AVPair, sigma: Float[Tensor, " b"], runs: tuple[Pass, ...]) -> Sequence[AVPair]:
        mine = runs[self._rank :: self._size]
        own = iter(self._velocity(state, sigma, mine) if mine else ())
        return [self._told(next(own) if i % self._size == self._rank else state, i) for i in range(len(runs))]

    def _told(self, velocity: AVPair, number: int) -> AVPair:
        """The velocity of a pass, of whichever process ran it."""
        parts = [part.float().contiguous().clone() for part in (velocity.video, velocity.audio)]
        for part in parts:
            dist.broadcast(part, group=self._group, group_src=number % self._size)
        return AVPair(video=parts[0], audio=parts[1])


class PictureSharing:
    """`models.transformer.Sharing`: the tokens of every latent frame, spread over a group."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self._mesh, self._group = mesh, mesh[PICTURE].get_group()
        self._rank, self._size = mesh[PICTURE].get_local_rank(), mesh[PICTURE].size()
        self._counts: list[int] = []

    def install(self, transformer: UniAVGenTransformer) -> None:
        """Let a transformer's video attention and v2a interactions reach over the group. ConfigError for a number of
        processes that its heads cannot be shared by."""
        heads = transformer.settings.video.num_heads
        if heads % self._size:
            fitting = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
            raise ConfigError(f"{self._size} processes cannot share {heads} heads evenly; take one of {fitting}")
        exchange = self._exchange_of_heads(transformer.device)
        for block in transformer.blocks:
            block.video.attn1.processor._parallel_config = exchange
            if block.interaction is not None:
                for projection in (block.interaction.v2a.to_k, block.interaction.v2a.to_v):
                    projection.register_forward_hook(self._gather_output)
        transformer.sharing = self

    def split(self, run: ForwardPass) -> ForwardPass:
        """The pass with this process's tokens of every latent frame."""
        if run.video is None:
            return run
        n = run.exchange.tokens_per_frame
        if n < self._size:
            raise ConfigError(f"{self._size} processes cannot share {n} video tokens a frame; start fewer")
        self._counts = [len(share) for share in torch.arange(n).tensor_split(self._size)]
        context, a2v = run.video.context, run.exchange.a2v
        rotary = Rotary(*(self._share(x, n, dim=0) for x in (context.rotary.cos, context.rotary.sin)))
        video = replace(
            run.video, hidden=self._share(run.video.hidden, n, dim=1), context=replace(context, rotary=rotary)
        )
        if a2v is not None:
            query = Rotary(
                *(x.tensor_split(self._size, dim=-2)[self._rank] for x in (a2v.plan.query.cos, a2v.plan.query.sin))
            )
            a2v = replace(a2v, plan=replace(a2v.plan, query=query))
        exchange = replace(run.exchange, a2v=a2v, tokens_per_frame=self._counts[self._rank])
        return replace(run, video=video, exchange=exchange)

    def join(self, video: Float[Tensor, "b s d"] | None, records: dict[int, Record]) -> Float[Tensor, "b s d"] | None:
        """All tokens of every latent frame, and whole face masks in the records."""
        if video is None:
            return None
        for record in records.values():
            if record.face_mask is not None:
                record.face_mask = self._gathered(record.face_mask)
        frames = rearrange(video, "b (f n) d -> b f n d", n=self._counts[self._rank])
        return rearrange(self._gathered(frames), "b f n d -> b (f n) d")

    def _share(self, x: Tensor, tokens_per_frame: int, dim: int) -> Tensor:
        """This process's part of a tensor over the tokens of all latent frames."""
        frames = x.unflatten(dim, (-1, tokens_per_frame))
        return frames.tensor_split(self._size, dim=dim + 1)[self._rank].flatten(dim, dim + 1)

    def _gathered(self, x: Float[Tensor, "b f n_share *d"]) -> Float[Tensor, "b f n *d"]:
        """Shares of all processes in order; they may differ by one token a frame, so the wire has the longest."""
        missing = max(self._counts) - x.shape[2]
        padded = torch.cat([x, x[:, :, :missing]], dim=2).contiguous()
        shares = [torch.empty_like(padded) for _ in self._counts]
        dist.all_gather(shares, padded, group=self._group)
        return torch.cat([share[:, :, :count] for share, count in zip(shares, self._counts, strict=True)], dim=2)

    def _gather_output(self, _module: "nn.Module", _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self._gathered(output)

    def _exchange_of_heads(self, device: torch.device):
        """diffusers' settings of Ulysses attention for shares of any length; set up by hand, since diffusers' own
        set-up counts GPUs and so fails on a CPU."""
        from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig

        config = ParallelConfig(
            context_parallel_config=ContextParallelConfig(ulysses_degree=self._size, ulysses_anything=True)
        )
        config.setup(dist.get_rank(), dist.get_world_size(), device, mesh=self._mesh)
        return config
