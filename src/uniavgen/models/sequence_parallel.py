"""Sequence parallelism for one clip: a group of processes shares the video tokens of every forward pass (Ulysses).

Each process holds a part of the tokens of every latent frame, and all of the audio. Modulation and a2v need no
exchange; self-attention exchanges tokens for heads (all-to-all); v2a gathers the keys and values of the frames, which
are of the audio branch's width. Results differ from those of one process by rounding only.

Letters: b batch, f latent frames, n video tokens of one, d width.
"""

from dataclasses import replace

import torch
import torch.distributed as dist
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from uniavgen.distributed import ULYSSES_DIM, ParallelContext
from uniavgen.errors import ConfigError
from uniavgen.models.interaction.layer import Record
from uniavgen.models.rotary import Rotary
from uniavgen.models.transformer import ForwardPass, UniAVGenTransformer


def apply_sequence_parallel(transformer: UniAVGenTransformer, parallel: ParallelContext) -> None:
    """Lets the processes along `ULYSSES_DIM` share every forward pass of a transformer, in place."""
    if parallel.mesh is not None and parallel.sub_mesh(ULYSSES_DIM) is not None:
        SequenceParallel(parallel.mesh).install(transformer)


class SequenceParallel:
    """A `transformer.Sharing` that spreads the tokens of every latent frame over a group of processes (Ulysses)."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self._mesh, self._group = mesh, mesh[ULYSSES_DIM].get_group()
        self._rank, self._size = mesh[ULYSSES_DIM].get_local_rank(), mesh[ULYSSES_DIM].size()
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

    def _gather_output(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
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
