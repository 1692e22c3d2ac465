"""How two modalities share a training: gradient norms of the parts, ratios, and how many clips train which modality."""

from collections import Counter
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.models.parts import Part, parameters_by_part
from uniavgen.training.curves import CurveWriter
from uniavgen.training.loop import StepRecord
from uniavgen.training.sharding import full_tensor
from uniavgen.training.state import TrainState

MODALITIES = ("video", "audio")


@dataclass(kw_only=True)
class BalanceCallback:
    """Writes the balance of a stage to TensorBoard every so many steps. All processes call it together.

    `grad_norm/PART` is the norm before clipping, 0 for parts that the step's task does not train. `share/MODALITY` is
    the share of the clips since the last record that had a loss of that modality.
    `audio_to_video/loss` and `audio_to_video/grad_norm` are ratios, in steps that have both.
    """

    writer: CurveWriter | None
    """None in other processes than the first."""
    every: int
    _num_clips: int = 0
    _with_loss: Counter[str] = field(default_factory=Counter)

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        self._num_clips += record.data.num_clips
        for name in MODALITIES:
            self._with_loss[name] += record.data.num_clips * (name in record.losses)
        if record.step % self.every and record.step != 1:
            return
        norms = part_gradient_norms(state.model, record.grad_norm)
        if self.writer is not None:
            # One wait for the device, besides that of `record.values`.
            numbers = dict(zip(norms, torch.stack([*norms.values()]).tolist(), strict=True))
            scalars = {f"grad_norm/{part}": norm for part, norm in numbers.items()}
            scalars |= {f"share/{name}": self._with_loss[name] / self._num_clips for name in MODALITIES}
            scalars |= _ratio("grad_norm", numbers) | _ratio("loss", record.shown_losses)
            self.writer.add_scalars(scalars, record.step)
        self._num_clips, self._with_loss = 0, Counter()


def part_gradient_norms(model: nn.Module, grad_norm: Float[Tensor, ""]) -> dict[str, Float[Tensor, ""]]:
    """Returns the norms of the gradients of a model's parts, whose squares add up to that of `grad_norm`.

    The gradients may have been scaled by one number since, as clipping does. Reads no value from the device. All
    processes of a sharded model call it together.
    """
    norms: dict[str, Tensor] = {}
    for part, parameters in parameters_by_part(model).items():
        gradients = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
        norms[part.value] = full_tensor(nn.utils.get_total_norm(gradients)) if gradients else grad_norm.new_zeros(())
    stacked = torch.stack([norm.float() for norm in norms.values()])
    scale = grad_norm / torch.linalg.vector_norm(stacked).clamp(min=torch.finfo(stacked.dtype).tiny)
    return dict(zip(norms, (stacked * scale).unbind(), strict=True))


def _ratio(name: str, values: "dict[str, float]") -> dict[str, float]:
    video, audio = values.get(Part.VIDEO.value), values.get(Part.AUDIO.value)
    return {f"audio_to_video/{name}": audio / video} if video and audio else {}
