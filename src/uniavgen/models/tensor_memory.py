"""Counts exactly how much memory tensors take: on real tensors to measure, on meta tensors to predict.

A forward pass over meta tensors computes shapes only, so the memory that the full-size model would take is counted
from the very code that runs it, in seconds and without weights.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, UntypedStorage, nn
from torch.overrides import TorchFunctionMode

from uniavgen.models.diffusers_compat import TorchDispatchMode


class TensorMemoryCounter(TorchDispatchMode):
    """Counts the bytes of tensors that operations inside create on one type of device.

    `live_bytes` is the current sum, `peak_bytes` the largest so far. Scratch memory that a kernel allocates and frees
    inside one operation is not counted.
    """

    def __init__(self, device_type: str, ignoring: Iterable[Tensor] = ()) -> None:
        """Starts at zero bytes. `ignoring`: existing tensors, which with their views are not counted."""
        super().__init__()
        self.device_type = device_type
        self.live_bytes = self.peak_bytes = 0
        self._ignored = {tensor.untyped_storage() for tensor in ignoring}
        self._counted: weakref.WeakSet[UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = operation(*args, **(kwargs or {}))
        for value in outputs if isinstance(outputs, tuple | list) else (outputs,):
            if isinstance(value, Tensor) and value.device.type == self.device_type:
                self._count(value)
        return outputs

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._counted or storage in self._ignored:
            return
        self._counted.add(storage)
        self.hold(storage.nbytes())
        weakref.finalize(storage, self._free, storage.nbytes())

    def hold(self, size: int) -> None:
        """Counts bytes of something that no operation creates, from now on."""
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _free(self, size: int) -> None:
        self.live_bytes -= size


class MetaTensorMode(TorchFunctionMode):
    """Replaces functions that cannot run on meta tensors, or allocate otherwise on them.

    Attention allocates its output only, as fused kernels do; `F.fold` the buffer that the real kernel keeps;
    `bool(tensor)` is False; `tensor.cpu()` returns the tensor itself.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            query, value = (args[i] if len(args) > i else kwargs[name] for i, name in ((0, "query"), (2, "value")))
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        if function is F.fold:
            # Real kernels leave the sum in the memory of a copy of the parts, of which it takes the beginning.
            parts, summed = args[0], function(*args, **kwargs)
            room = summed.new_empty(max(parts.numel(), summed.numel()))
            return room[: summed.numel()].view(summed.shape)
        if function in (Tensor.__bool__, Tensor.cpu) and args[0].is_meta:
            return False if function is Tensor.__bool__ else args[0]
        return function(*args, **kwargs)


def peak_bytes_on_meta(run: Callable[[], Any], ignoring: Iterable[Tensor]) -> int:
    """Returns the peak bytes of tensors that `run` creates on the meta device, where nothing is computed.

    ignoring: existing tensors that are not counted, such as the weights.
    """
    with torch.no_grad(), MetaTensorMode(), TensorMemoryCounter("meta", ignoring) as counter:
        run()
    return counter.peak_bytes


def plain_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yields weights and buffers; of a quantised weight the tensors that it consists of."""
    for tensor in (*module.parameters(), *module.buffers()):
        names = getattr(tensor, "tensor_data_names", ())
        yield from (getattr(tensor, name) for name in names) if names else (tensor,)


def stored_bytes(module: nn.Module) -> int:
    """Returns the bytes of weights and buffers."""
    return sum(tensor.nbytes for tensor in plain_tensors(module))
