"""Shards a model over the processes of a run, from outside: the model does not know. FSDP2, one unit a fused block.

Master weights, gradients and moments are float32 and live in shards; a block's weights are gathered when it runs, in
the precision that it computes in. Over several machines, whole copies of the shards stand on each machine (hybrid
sharding), so that only gradients cross the network between them.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from uniavgen.errors import ConfigError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.interaction.face_mask import FaceMaskHead
from uniavgen.models.modulation import TimeEmbedding
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.config import ShardingConfig

REPLICATE_DIM, SHARD_DIM = "replicate", "shard"
REPLICATED_PARAMETERS = 400_000_000
"""A model of at most so many parameters is copied to every process: 8 GB of weights, gradients, moments and averages.
[ours]"""
FLOAT32_MODULES = (TimeEmbedding, FaceMaskHead)
"""Modules that compute in float32 whatever the precision of the run, as in sampling."""


def shard_degree(config: ShardingConfig, num_parameters: int, world_size: int) -> int:
    """Returns how many processes share one copy of the model.

    Left to choose: each process has its own where that takes little memory, since gathering would cost more than it
    saves; otherwise the processes of one machine share one. Raises ConfigError where copies do not come out even.
    """
    chosen = config.shard_degree
    if not chosen:
        on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
        chosen = 1 if num_parameters <= REPLICATED_PARAMETERS else on_machine
    if world_size % chosen:
        raise ConfigError(
            f"{world_size} processes cannot form groups of {chosen} that share a copy of the model; set "
            "sharding.shard_degree to a divisor"
        )
    return chosen


def sharding_mesh(device_type: str, world_size: int, degree: int) -> DeviceMesh:
    """Returns a mesh of copies x the `degree` processes that share one; neighbours, which stand on one machine, share.

    Both numbers of processes as in `shard_degree`.
    """
    shape = (world_size // degree, degree)
    return init_device_mesh(device_type, shape, mesh_dim_names=(REPLICATE_DIM, SHARD_DIM))


def shard_model(
    model: UniAVGenTransformer,
    mesh: DeviceMesh,
    dtype: torch.dtype | None = None,
    reshard_after_forward: bool = True,
    prefetch_blocks: int = 1,
) -> None:
    """Shards a model in place, before its optimiser is built.

    dtype: of the gathered weights in blocks and stems; None is float32. Gradients are reduced in float32.
    reshard_after_forward: whether a block's weights are given back until its backward pass gathers them again, which
        costs one more exchange and saves the memory of the whole model.
    prefetch_blocks: blocks whose weights are on their way while one is computed.
    """
    # Outputs of units are views of what their last operation made; that is harmless as nothing is changed in place (a
    # test looks), and outputs that are none would take another copy of the tokens in every block.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    # Inputs hold rotary tables and times that must stay float32, so blocks cast what they compute with by themselves.
    compute = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    exact = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    if dtype is not None:
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
    blocks = cast(list[FSDPModule], list(model.blocks))
    for place, block in enumerate(blocks):
        block.set_modules_to_forward_prefetch(blocks[place + 1 : place + 1 + prefetch_blocks])
        block.set_modules_to_backward_prefetch(blocks[max(place - prefetch_blocks, 0) : place][::-1])
    # Sampling also enters the model through these.
    for method in ("encode_text", "precompute_branch"):
        register_fsdp_forward_method(model, method)


def empty_model(settings: TransformerConfig, adapters: Mapping[str, Any]) -> UniAVGenTransformer:
    """Returns a model on the meta device, which takes no memory. adapters: as `lora.adapter_configs` returns them."""
    with torch.device("meta"):
        model = UniAVGenTransformer.from_settings(settings)
        for name, adapter in adapters.items():
            model.add_adapter(adapter, name)
    return model


def load_sharded(model: UniAVGenTransformer, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Gives a sharded model on the meta device the weights that the first process holds; the others' are not read.

    A tensor is whole on a device only while it is handed on. All processes call it.
    """
    model.to_empty(device=device)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, dict(weights), options=options)


def begin_backward(model: torch.nn.Module, is_last: bool, reshard: bool) -> None:
    """Tells a sharded model whether its next backward pass is the last one of the step; does nothing for others.

    Each pass shares out its gradients over the processes that share a copy, so that none holds them whole; over copies
    they are summed once, in the last pass. reshard: whether blocks give their weights back after an earlier pass.
    """
    if isinstance(model, FSDPModule):
        model.set_is_last_backward(is_last)
        model.set_requires_all_reduce(is_last)
        model.set_reshard_after_backward(is_last or reshard)


def is_sharded(model: torch.nn.Module) -> bool:
    """Returns whether several processes hold the model, so that its weights are whole only while a block runs."""
    return isinstance(model, FSDPModule)


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the whole of a sharded tensor; all processes must call it. Others are returned as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
