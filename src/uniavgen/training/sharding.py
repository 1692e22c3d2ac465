"""Shards a model over the processes of a run, from outside: the model does not know. FSDP2, one unit a fused block.

Master weights, gradients and moments are float32 and live in shards; a block's weights are gathered when it runs, in
the precision that it computes in. Over several machines, whole copies of the shards stand on each machine (hybrid
sharding), so that only gradients cross the network between them.
"""

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from uniavgen.errors import ConfigError
from uniavgen.models.interaction.face_mask import FaceMaskHead
from uniavgen.models.modulation import TimeEmbedding
from uniavgen.models.transformer import UniAVGenTransformer

REPLICATE_DIM, SHARD_DIM = "replicate", "shard"
FLOAT32_MODULES = (TimeEmbedding, FaceMaskHead)
"""Modules that compute in float32 whatever the precision of the run, as in sampling."""


def sharding_mesh(device_type: str, world_size: int, replicas: int = 1) -> DeviceMesh:
    """Returns a mesh of `replicas` x the rest. Raises ConfigError where the processes cannot be divided so."""
    if world_size % replicas:
        raise ConfigError(f"{world_size} processes cannot hold {replicas} equal replicas; choose a divisor")
    shape = (replicas, world_size // replicas)
    return init_device_mesh(device_type, shape, mesh_dim_names=(REPLICATE_DIM, SHARD_DIM))


def shard_model(
    model: UniAVGenTransformer, mesh: DeviceMesh, dtype: torch.dtype | None = None, reshard_after_forward: bool = True
) -> None:
    """Shards a model in place, before its optimiser is built.

    dtype: of the gathered weights in blocks and stems; None is float32. Gradients are reduced in float32.
    reshard_after_forward: whether a block's weights are given back until its backward pass gathers them again, which
        costs one more exchange and saves the memory of the whole model.
    """
    # Inputs hold rotary tables and times that must stay float32, so blocks cast what they compute with by themselves.
    compute = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    exact = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    # It stands inside a float32 module but is called by itself, so it is gathered by itself.
    caption_projection = model.video_stem.condition_embedder.text_embedder
    fully_shard(caption_projection, mesh=mesh, mp_policy=compute, reshard_after_forward=reshard_after_forward)
    for module in list(model.modules()):
        if isinstance(module, FLOAT32_MODULES):
            fully_shard(module, mesh=mesh, mp_policy=exact, reshard_after_forward=reshard_after_forward)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=compute, reshard_after_forward=reshard_after_forward)
    # The stems of the root are needed again at the end of a pass and at once in the backward pass.
    fully_shard(model, mesh=mesh, mp_policy=compute, reshard_after_forward=False)
    # Texts may be encoded outside of `forward`, where FSDP would not gather.
    register_fsdp_forward_method(model, "encode_text")


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the whole of a sharded tensor; all processes must call it. Others are returned as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
