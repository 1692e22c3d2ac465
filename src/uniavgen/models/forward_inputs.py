"""Holds the values of one forward pass of the transformer as its blocks take them.

Letters: b batch, s video or audio tokens, d width, k distinct times, f latent frames, n video tokens a frame.
"""

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from uniavgen.models.block import BranchContext, TextFeatures
from uniavgen.models.interaction.layer import BranchKVCache, InteractionContext, VideoTimeEmbedding


@dataclass(frozen=True, kw_only=True)
class TextContext:
    """Holds both texts as the blocks attend to them; `UniAVGenTransformer.encode_text` computes them once per clip."""

    caption: TextFeatures
    speech: TextFeatures


@dataclass(frozen=True, kw_only=True)
class BranchInputs:
    """Holds the tokens and the conditioning of one branch in one forward pass."""

    hidden: Float[Tensor, "b s d"]
    """Embedded tokens, the reference part first."""
    context: BranchContext
    time_embedding: Float[Tensor, "b k d"]
    clip_timestep_index: Int[Tensor, "b s_clip"] | None
    """`BranchContext.timestep_index` without the reference part."""

    def video_time(self, samples: slice) -> VideoTimeEmbedding:
        """Returns the flow time of some leading samples of the batch, for the face mask."""
        # Rows are counted over the flattened batch, so those of leading samples stay the same.
        index = None if self.clip_timestep_index is None else self.clip_timestep_index[samples]
        return VideoTimeEmbedding(embedding=self.time_embedding[samples], timestep_index=index)


@dataclass(frozen=True, kw_only=True)
class BlockInputs:
    """Holds everything that the blocks run on; a branch that is not run is None."""

    video: BranchInputs | None
    audio: BranchInputs | None
    interaction: InteractionContext
    branch_cache: BranchKVCache | None


class TokenSharding(Protocol):
    """Splits the video tokens of a forward pass over several processes, the same share of every latent frame."""

    def shard(self, inputs: BlockInputs) -> BlockInputs:
        """Returns the pass with this process's tokens of every latent frame."""
        ...

    def gather_tokens(self, tokens: Float[Tensor, "b s_shard d"]) -> Float[Tensor, "b s d"]:
        """Returns the tokens of all processes, frame by frame."""
        ...

    def gather_face_mask(self, mask: Float[Tensor, "b f n_shard"]) -> Float[Tensor, "b f n"]:
        """Returns the face mask over all tokens."""
        ...
