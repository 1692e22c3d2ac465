"""AdamW whose moments are kept in 8 bits, for runs whose moments would not fit otherwise. Needs torchao.

A moment is stored as a code of 8 bits an element and one float32 scale a block of 256 elements: 1.02 bytes instead of
4. [arXiv 2110.02861] The update itself is computed in float32 by torchao. Two things differ from torchao's optimiser:
the step heeds `found_inf` on the device, as fused kernels do, and which tensors are quantised does not depend on the
number of processes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torchao.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
from torchao.optim.adam import single_param_adam  # pyright: ignore[reportMissingImports]
from torchao.optim.subclass_8bit import OptimState8bit  # pyright: ignore[reportMissingImports]

MIN_QUANTIZED = 4096
"""Elements from which on a moment is quantised, as in bitsandbytes and torchao."""


class SkippingAdamW8bit(AdamW8bit):
    """torchao's AdamW8bit, with steps that change nothing where `found_inf` is 1.

    A tensor is quantised only where its rows are whole blocks: shards are cut between rows, so every number of
    processes has the same blocks, and a checkpoint can be cut anew. The others stay in float32.
    """

    found_inf: Tensor | None = None
    """1 on the device where the step must change neither weights nor moments; set before each step."""

    def _new_buffer(self, p: Tensor, signed: bool) -> Tensor:
        row = p.numel() // max(p.shape[0], 1) if p.ndim else 1
        local = _local(p)
        if p.numel() >= MIN_QUANTIZED and row % self.block_size == 0 and local.numel() > 0:
            moment = self._subclass_zeros(local, signed, self.block_size)
        else:
            moment = torch.zeros_like(local, dtype=torch.float32)
        if isinstance(p, DTensor):
            return DTensor.from_local(
                moment, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
            )
        return moment

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Takes one step; `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            # As a tensor, so that compiled updates do not depend on its value.
            lr = torch.as_tensor(group["lr"], dtype=torch.float32)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    # On the device, where it is known whether the step counts.
                    state["step"] = torch.zeros((), device=parameter.device)
                    state["exp_avg"] = self._new_buffer(parameter, signed=True)
                    state["exp_avg_sq"] = self._new_buffer(parameter, signed=False)
                local, gradient = _local(parameter.detach()), _local(parameter.grad)
                found_inf = torch.zeros_like(state["step"]) if self.found_inf is None else self.found_inf
                if local.numel() == 0:
                    # The shard of a process beyond the rows of a small tensor.
                    state["step"] += 1 - found_inf
                    continue
                moments = Moments(_local(state["exp_avg"]), _local(state["exp_avg_sq"]))
                # One kernel a tensor instead of about sixty; on a CPU, compiling takes longer than it saves.
                update = torch.compile(_update, dynamic=False) if parameter.device.type == "cuda" else _update
                update(local, gradient, state["step"], moments, lr, found_inf, _Settings.of(group))


class Moments(NamedTuple):
    """The averages of the gradient and of its square, quantised or not."""

    first: Tensor
    second: Tensor

    def stored(self) -> list[Tensor]:
        """Returns the plain tensors that steps change."""
        return [tensor for moment in self for tensor in _stored(moment)]


class _Settings(NamedTuple):
    """What AdamW does besides the learning rate."""

    beta1: float
    beta2: float
    weight_decay: float
    eps: float

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> "_Settings":
        """Returns the settings of a parameter group."""
        beta1, beta2 = group["betas"]
        return cls(beta1, beta2, group["weight_decay"], group["eps"])


def _update(
    parameter: Tensor,
    grad: Tensor,
    step: Tensor,
    moments: Moments,
    lr: Tensor,
    found_inf: Tensor,
    settings: _Settings,
) -> None:
    """Takes the step of one tensor in place; gives everything its old value back where `found_inf` is 1."""
    changed = [parameter, step, *moments.stored()]
    old = [tensor.clone() for tensor in changed]
    step += 1
    single_param_adam(parameter, grad, step, *moments, None, lr, *settings, True, False)
    for tensor, before in zip(changed, old, strict=True):
        tensor.copy_(torch.where(found_inf > 0, before, tensor))


def moment_bytes(optimizer: SkippingAdamW8bit) -> int:
    """Returns the bytes of both moments of all parameters, which may lie on the meta device."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    moments = (optimizer._new_buffer(parameter, signed) for parameter in parameters for signed in (True, False))
    return sum(tensor.nbytes for moment in moments for tensor in _stored(moment))


def _stored(moment: Tensor) -> list[Tensor]:
    """Returns the plain tensors of a moment that steps change."""
    return [moment.codes, moment.scale] if isinstance(moment, OptimState8bit) else [moment]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
