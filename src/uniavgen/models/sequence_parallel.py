"""Shares the video tokens of every forward pass among a group of processes: sequence parallelism for one clip.

Each process holds a part of the tokens of every latent frame, and all of the audio. Modulation and a2v need no
exchange; self-attention exchanges tokens for heads (all-to-all, DeepSpeed-Ulysses, arXiv 2309.14509); v2a gathers the
keys and values of the frames, which have the audio branch's width. Results differ from those of one process by
rounding only. [ours]

Letters: b batch, f latent frames, n video tokens of a latent frame, n_shard those of one process, s = f n, d width.
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
from uniavgen.models.diffusers_compat import set_parallel_config, ulysses_config
from uniavgen.models.forward_inputs import BlockInputs
from uniavgen.models.rotary import Rotary
from uniavgen.models.transformer import UniAVGenTransformer


def apply_sequence_parallel(transformer: UniAVGenTransformer, parallel: ParallelContext) -> None:
    """Lets the processes along `ULYSSES_DIM` share every forward pass of a transformer, in place."""
    if parallel.mesh is not None and parallel.sub_mesh(ULYSSES_DIM) is not None:
        SequenceParallel(parallel.mesh).install(transformer)


class SequenceParallel:
    """Splits the tokens of every latent frame over a group of processes; implements `TokenSharding`."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self._mesh, self._group = mesh, mesh[ULYSSES_DIM].get_group()
        self._rank, self._size = mesh[ULYSSES_DIM].get_local_rank(), mesh[ULYSSES_DIM].size()
        self._counts: list[int] = []

    def install(self, transformer: UniAVGenTransformer) -> None:
        """Lets a transformer's video self-attention and v2a interactions work over the group.

        Raises ConfigError where the number of attention heads is no multiple of the number of processes.
        """
        heads = transformer.settings.video.num_heads
        if heads % self._size:
            fitting = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
            raise ConfigError(f"{self._size} processes cannot share {heads} heads evenly; take one of {fitting}")
        exchange = ulysses_config(self._mesh, self._size, transformer.device)
        for block in transformer.blocks:
            set_parallel_config(block.video.attn1, exchange)
            if block.interaction is not None:
                for projection in (block.interaction.v2a.to_k, block.interaction.v2a.to_v):
                    projection.register_forward_hook(self._gather_output)
        transformer.sequence_parallel = self

    def shard(self, inputs: BlockInputs) -> BlockInputs:
        """Returns the pass with this process's tokens of every latent frame.

        Raises ConfigError where a latent frame has fewer tokens than there are processes.
        """
        if inputs.video is None:
            return inputs
        n = inputs.interaction.tokens_per_frame
        if n < self._size:
            raise ConfigError(f"{self._size} processes cannot share {n} video tokens a frame; start fewer")
        self._counts = [len(shard) for shard in torch.arange(n).tensor_split(self._size)]
        context, a2v = inputs.video.context, inputs.interaction.a2v
        rotary = Rotary(*(self._shard(x, n, dim=0) for x in (context.rotary.cos, context.rotary.sin)))
        video = replace(
            inputs.video, hidden=self._shard(inputs.video.hidden, n, dim=1), context=replace(context, rotary=rotary)
        )
        if a2v is not None:
            tables = (a2v.plan.query_rotary.cos, a2v.plan.query_rotary.sin)
            query_rotary = Rotary(*(x.tensor_split(self._size, dim=-2)[self._rank] for x in tables))
            a2v = replace(a2v, plan=replace(a2v.plan, query_rotary=query_rotary))
        interaction = replace(inputs.interaction, a2v=a2v, tokens_per_frame=self._counts[self._rank])
        return replace(inputs, video=video, interaction=interaction)

    def gather_tokens(self, tokens: Float[Tensor, "b s_shard d"]) -> Float[Tensor, "b s d"]:
        """Returns the tokens of all processes, frame by frame."""
        frames = rearrange(tokens, "b (f n) d -> b f n d", n=self._counts[self._rank])
        return rearrange(self._gathered(frames), "b f n d -> b (f n) d")

    def gather_face_mask(self, mask: Float[Tensor, "b f n_shard"]) -> Float[Tensor, "b f n"]:
        """Returns the face mask over all tokens."""
        return self._gathered(mask)

    def _shard(self, x: Tensor, tokens_per_frame: int, dim: int) -> Tensor:
        """Returns this process's part of a tensor over the tokens of all latent frames."""
        frames = x.unflatten(dim, (-1, tokens_per_frame))
        return frames.tensor_split(self._size, dim=dim + 1)[self._rank].flatten(dim, dim + 1)

    def _gathered(self, x: Float[Tensor, "b f n_shard *d"]) -> Float[Tensor, "b f n *d"]:
        """Returns the shards of all processes, joined in the order of their ranks."""
        # Shards may differ by one token a frame, and all_gather takes one size: each is padded to the longest.
        missing = max(self._counts) - x.shape[2]
        padded = torch.cat([x, x[:, :, :missing]], dim=2).contiguous()
        shards = [torch.empty_like(padded) for _ in self._counts]
        dist.all_gather(shards, padded, group=self._group)
        return torch.cat([shard[:, :, :count] for shard, count in zip(shards, self._counts, strict=True)], dim=2)

    def _gather_output(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Replaces the output of a v2a key or value projection by that for all tokens (a forward hook)."""
        return self._gathered(output)
