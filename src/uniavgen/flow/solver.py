"""Solves dx/dsigma = v(x, sigma) step by step. A solver may have a history, so every clip gets a new one.

Letters: n = number of steps + 1.
"""

from typing import Protocol, assert_never, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair
from uniavgen.flow.choices import SolverKind


@runtime_checkable
class Solver(Protocol):
    """Takes the steps of one clip, each once and in order."""

    def advance(self, state: AVPair, velocity: AVPair, step: int) -> AVPair:
        """Returns the state at time `step` + 1 from the state and the velocity at time `step`."""
        ...


def make_solver(kind: SolverKind, sigmas: AVPair) -> Solver:
    """Returns a new solver for the times ` n` of each modality, which fall to 0 (`schedule.sigmas`)."""
    match kind:
        case SolverKind.EULER:
            return Euler(sigmas)
        case SolverKind.UNIPC:
            return UniPC(sigmas)
        case _:
            assert_never(kind)


class Euler:
    """Integrates to first order: x <- x + (sigma_next - sigma) v. [release]"""

    def __init__(self, sigmas: AVPair) -> None:
        self._video, self._audio = sigmas.video.tolist(), sigmas.audio.tolist()

    def advance(self, state: AVPair, velocity: AVPair, step: int) -> AVPair:
        video, audio = (times[step + 1] - times[step] for times in (self._video, self._audio))
        return state + velocity * AVPair(video=video, audio=audio)


class UniPC:
    """Integrates with diffusers' UniPC (multistep, order 2). [ours]"""

    def __init__(self, sigmas: AVPair) -> None:
        # A scheduler stores the predictions of its last steps, so each modality has one.
        self._video = _unipc(sigmas.video)
        self._audio = _unipc(sigmas.audio)

    def advance(self, state: AVPair, velocity: AVPair, step: int) -> AVPair:
        video_time, audio_time = self._video.timesteps[step], self._audio.timesteps[step]
        return AVPair(
            video=self._video.step(velocity.video, video_time, state.video, return_dict=False)[0],
            audio=self._audio.step(velocity.audio, audio_time, state.audio, return_dict=False)[0],
        )


def _unipc(sigmas: Float[Tensor, " n"]):
    """Returns diffusers' scheduler over given sigmas."""
    from diffusers import UniPCMultistepScheduler

    # The sigmas are shifted already: flow_shift must stay 1.
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    # Its type hint is a list, but it computes with an array.
    scheduler.set_timesteps(sigmas=cast(list[float], sigmas[:-1].double().numpy()))
    # Its integer timesteps may repeat, so it must count steps instead of looking their timestep up.
    scheduler.set_begin_index(0)
    return scheduler
