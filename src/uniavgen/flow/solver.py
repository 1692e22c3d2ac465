"""Solvers of the flow's equation. Each one is made anew for a clip and asked once a step."""

from typing import Protocol, assert_never, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair
from uniavgen.flow.choices import SolverKind


@runtime_checkable
class Solver(Protocol):
    """State at one sigma to state at the next; called with k = 0, 1, ... in order."""

    def advance(self, state: AVPair, velocity: AVPair, step: int) -> AVPair: ...


def make_solver(kind: SolverKind, sigmas: Float[Tensor, " n"]) -> Solver:
    """Returns a new solver for falling times that end at 0."""
    match kind:
        case SolverKind.EULER:
            return Euler(sigmas)
        case SolverKind.UNIPC:
            return UniPC(sigmas)
        case _:
            assert_never(kind)


class Euler:
    """x <- x + (sigma_next - sigma) v."""

    def __init__(self, sigmas: Float[Tensor, " n"]) -> None:
        self._sigmas = sigmas.tolist()

    def advance(self, state: AVPair, velocity: AVPair, step: int) -> AVPair:
        return state + velocity * (self._sigmas[step + 1] - self._sigmas[step])


class UniPC:
    """diffusers' UniPC. It keeps a history, so each modality has a scheduler of its own."""

    def __init__(self, sigmas: Float[Tensor, " n"]) -> None:
        self._video = _unipc(sigmas)
        self._audio = _unipc(sigmas)

    def advance(self, state: AVPair, velocity: AVPair, step: int) -> AVPair:
        video_time, audio_time = self._video.timesteps[step], self._audio.timesteps[step]
        return AVPair(
            video=self._video.step(velocity.video, video_time, state.video, return_dict=False)[0],
            audio=self._audio.step(velocity.audio, audio_time, state.audio, return_dict=False)[0],
        )


def _unipc(sigmas: Tensor):
    from diffusers import UniPCMultistepScheduler

    # The sigmas are shifted already: flow_shift must stay 1.
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    # It says that it takes a list, and computes with an array.
    scheduler.set_timesteps(sigmas=cast(list[float], sigmas[:-1].double().numpy()))
    # Its integer timesteps may repeat, so it must count steps and not look them up.
    scheduler.set_begin_index(0)
    return scheduler
