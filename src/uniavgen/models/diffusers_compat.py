"""Every private name of diffusers and torch that this package uses, in one place.

They are tied to the versions in pyproject.toml; each function says what would be lost without it.
"""

from typing import TYPE_CHECKING

from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from diffusers.models._modeling_parallel import ParallelConfig
    from diffusers.models.transformers.transformer_wan import WanAttention
    from torch import nn
    from torch._ops import OpOverloadPacket
    from torch._subclasses.fake_tensor import FakeTensorMode
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


def register_saved_class(library: str, base: type) -> None:
    """Lets pipelines save and load components that derive from `base` and are named by `library`.

    Without these private tables they take classes of diffusers and transformers only.
    """
    from diffusers.pipelines import pipeline_loading_utils

    methods = ["save_pretrained", "from_pretrained"]
    pipeline_loading_utils.LOADABLE_CLASSES.setdefault(library, {})[base.__name__] = methods
    pipeline_loading_utils.ALL_IMPORTABLE_CLASSES[base.__name__] = methods


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


def is_kept_in_float32(model: "type[ModelMixin]", parameter: str) -> bool:
    """Returns whether `from_pretrained` leaves a parameter, given by its name, in float32 and casts the others.

    diffusers reads the names from the class and offers no query.
    """
    return not set(model._keep_in_fp32_modules or ()).isdisjoint(parameter.split("."))


def cancel_offloading_outside_blocks(model: "nn.Module") -> None:
    """Removes everything but the blocks from a model's group offload; the caller moves it.

    diffusers' `apply_group_offloading` puts it into one group, which is on the device only during the `forward` of the
    whole model.
    """
    group = model._diffusers_hook.get_hook("group_offloading").group
    group.modules, group.parameters, group.buffers = [], [], []


def fake_tensor_mode() -> "FakeTensorMode":
    """Returns a context in which tensors have a device and a precision, as real ones, and no values.

    Meta tensors have no device that autocast knows.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def fused_attention_on_cpu() -> "tuple[OpOverloadPacket, OpOverloadPacket]":
    """Returns torch's operations of fused attention on a CPU, forward and backward.

    They save what a GPU's do; torch has formulas of operations for the GPU's only.
    """
    import torch

    aten = torch.ops.aten
    return (
        aten._scaled_dot_product_flash_attention_for_cpu,
        aten._scaled_dot_product_flash_attention_for_cpu_backward,
    )
