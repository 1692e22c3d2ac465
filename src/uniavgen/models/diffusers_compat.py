"""Every private name of diffusers and torch that this package uses, in one place.

They are tied to the versions in pyproject.toml; each function says what would be lost without it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers.models._modeling_parallel import ParallelConfig
    from diffusers.models.transformers.transformer_wan import WanAttention
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh


def register_block(block: "type[nn.Module]") -> None:
    """Tells diffusers' cache hooks which outputs of a block are hidden states: 0 video, 1 audio.

    Without the private registry only block caches (`FirstBlockCache`) are missing.
    """
    try:
        from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
    except ImportError:
        return
    TransformerBlockRegistry.register(
        block, TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1)
    )


def set_attention_backend(attention: "WanAttention", backend: str) -> None:
    """Sets the kernel of one attention.

    diffusers' public `set_attention_backend` sets that of every model in the process.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName

    attention.processor._attention_backend = AttentionBackendName(backend)


def check_attention_backend(backend: str) -> None:
    """Raises RuntimeError, with diffusers' reason, where the package of an attention backend is missing."""
    from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements

    _check_attention_backend_requirements(AttentionBackendName(backend))


def set_parallel_config(attention: "WanAttention", config: "ParallelConfig") -> None:
    """Makes one self-attention exchange tokens for heads within a group of processes (Ulysses).

    diffusers' public `enable_parallelism` needs a plan over the whole model and counts GPUs.
    """
    attention.processor._parallel_config = config


def ulysses_config(mesh: "DeviceMesh", size: int, device: "torch.device") -> "ParallelConfig":
    """Returns diffusers' settings of Ulysses attention over shards of any length.

    They are set up here, since diffusers' own set-up counts GPUs and so fails on a CPU.
    """
    from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig
    from torch import distributed

    config = ParallelConfig(context_parallel_config=ContextParallelConfig(ulysses_degree=size, ulysses_anything=True))
    config.setup(distributed.get_rank(), distributed.get_world_size(), device, mesh=mesh)
    return config
