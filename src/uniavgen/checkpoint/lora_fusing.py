"""Adds adapters (LoRA) to the weights of a transformer: W + scale * alpha / rank * B A.

The sum over all adapters is taken in float32 and rounded once to the precision of the weights. So fused weights cost
nothing in a pass, and may be stored in fp8 or int8, streamed or compiled like any others.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from uniavgen.checkpoint.keymap import Shape
from uniavgen.checkpoint.lora_file import LoraFile
from uniavgen.checkpoint.lora_keymap import LoraPart, find_layout, target_of
from uniavgen.checkpoint.weights import StoredTensor, check_finite, read_tensors
from uniavgen.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)
_LISTED: Final = 8


@dataclass(frozen=True, kw_only=True)
class WeightChange:
    """What one adapter adds to one parameter."""

    factor: float
    matrices: tuple[StoredTensor, ...]
    """A difference, or B and A of a product."""

    def add_to(self, total: Tensor) -> None:
        """Adds the change to a contiguous float32 copy of the parameter, in place."""
        stored = read_tensors({str(index): matrix for index, matrix in enumerate(self.matrices)})
        first, *second = (stored[str(index)].to(total.device, torch.float32) for index in range(len(stored)))
        if second:
            # The kernel of a convolution is that of its A, whose B has a kernel of one.
            total.view(len(total), -1).addmm_(first.flatten(1), second[0].flatten(1), alpha=self.factor)
        else:
            total.add_(first, alpha=self.factor)


@dataclass(frozen=True, kw_only=True)
class FittedLora:
    """An adapter that fits a transformer."""

    file: LoraFile
    changes: Mapping[str, tuple[WeightChange, ...]]
    """By the name of the parameter."""
    without_place: tuple[str, ...]
    """Names of its tensors that the transformer has no place for."""

    def describe(self) -> str:
        """Returns one line: how many weights are changed, and by which scale."""
        weights = "one weight" if len(self.changes) == 1 else f"{len(self.changes)} weights"
        return f"adapter {self.file.name}: scale {self.file.scale:g}, {weights} changed"


def fit_lora(lora: LoraFile, shapes: Mapping[str, Shape]) -> FittedLora:
    """Returns the places of an adapter's tensors in a transformer whose parameters have `shapes`.

    Tensors that have none are left out, with a warning that lists them.
    Raises CheckpointError where a tensor has another shape than its place, nothing has a place, or values are no
    numbers.
    """
    places = find_layout(lora.modules, shapes)
    changes: dict[str, tuple[WeightChange, ...]] = {}
    without_place = list(lora.foreign)
    for module, parts in lora.modules.items():
        for part, matrices in _changes_of(parts).items():
            target = target_of(module, part, places, shapes)
            if target is None:
                without_place += [matrix.key for matrix in matrices]
                continue
            _check_shape(lora, matrices, target, shapes[target])
            factor = _factor(lora, module, parts) if part in (LoraPart.UP, LoraPart.UP_BIAS) else lora.scale
            changes[target] = (*changes.get(target, ()), WeightChange(factor=factor, matrices=matrices))
    if not changes:
        raise CheckpointError(
            f"the adapter {lora.path} is for another model: none of its {len(lora.modules)} layers has a place here, "
            f"first {next(iter(lora.modules))}; use one for Wan2.2-TI2V-5B or for this model"
        )
    placed = (matrix for each in changes.values() for change in each for matrix in change.matrices)
    check_finite(read_tensors({matrix.key: matrix for matrix in placed}).items(), lora.file)
    if without_place:
        more = f" and {len(without_place) - _LISTED} more" if len(without_place) > _LISTED else ""
        names = ", ".join(without_place[:_LISTED])
        logger.warning(
            f"{len(without_place)} tensors of the adapter {lora.path} have no place in this model and are left out: "
            f"{names}{more}"
        )
    return FittedLora(file=lora, changes=changes, without_place=tuple(without_place))


@torch.no_grad()
def fuse_lora(parameters: Iterable[tuple[str, Tensor]], loras: Sequence[FittedLora]) -> None:
    """Adds adapters to parameters of a transformer, given by name, in place. One of scale 0 changes no bit.

    Raises ConfigError where the sum leaves the range of the parameter's type.
    """
    for name, parameter in parameters:
        changes = [change for lora in loras if lora.file.scale for change in lora.changes.get(name, ())]
        if not changes:
            continue
        total = parameter.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        in_range = all(abs(change.factor) <= torch.finfo(torch.float32).max for change in changes)
        for change in changes if in_range else ():
            change.add_to(total)
        fused = total.to(parameter.dtype)
        if not in_range or not torch.stack(torch.aminmax(fused)).isfinite().all():
            scales = ", ".join(f"{lora.file.scale:g}" for lora in loras)
            raise ConfigError(f"with adapters of scale {scales} {name} is beyond {parameter.dtype}; use smaller scales")
        parameter.copy_(fused)


def _changes_of(parts: Mapping[LoraPart, StoredTensor]) -> dict[LoraPart, tuple[StoredTensor, ...]]:
    """Returns the matrices of each change that an adapter makes to a module, by what is changed."""
    changes: dict[LoraPart, tuple[StoredTensor, ...]] = {
        part: (parts[part],) for part in parts if part not in (LoraPart.UP, LoraPart.DOWN, LoraPart.ALPHA)
    }
    if LoraPart.UP in parts:
        changes[LoraPart.UP] = (parts[LoraPart.UP], parts[LoraPart.DOWN])
    return changes


def _factor(lora: LoraFile, module: str, parts: Mapping[LoraPart, StoredTensor]) -> float:
    alpha = lora.alpha(module)
    if LoraPart.ALPHA in parts:
        stored = parts[LoraPart.ALPHA]
        alpha = float(read_tensors({"alpha": stored})["alpha"])
        if not math.isfinite(alpha):
            raise CheckpointError(f"{stored.key} in {lora.file} is {alpha}, no number; copy or download it again")
    return lora.factor(alpha, parts[LoraPart.DOWN].shape[0])


def _check_shape(lora: LoraFile, matrices: tuple[StoredTensor, ...], target: str, expected: Shape) -> None:
    """Raises CheckpointError where a change has another shape than the parameter that it is added to."""
    given = matrices[0].shape if len(matrices) == 1 else (matrices[0].shape[0], *matrices[1].shape[1:])
    is_pointwise = len(matrices) == 1 or math.prod(matrices[0].shape[2:]) == 1
    if given != expected or not is_pointwise:
        raise CheckpointError(
            f"the adapter {lora.path} is for another model: its {matrices[0].key} changes weights of {list(given)}, "
            f"{target} here is {list(expected)}; use one for Wan2.2-TI2V-5B or for this model"
        )
