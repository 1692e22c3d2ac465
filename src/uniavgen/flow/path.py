"""The straight path between a clip and noise: x_t = (1 - t) x_0 + t eps, dx/dt = eps - x_0 [paper eq. (1), (2)].

Letters: b batch.
"""

from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair


def interpolate(clean: AVPair, noise: AVPair, t: Float[Tensor, " b"]) -> AVPair:
    """Returns the state at time t, one time for both modalities of a sample. 1 is noise."""
    return AVPair(
        video=_mix(clean.video, noise.video, t),
        audio=_mix(clean.audio, noise.audio, t),
    )


def target_velocity(clean: AVPair, noise: AVPair) -> AVPair:
    """Returns the velocity that the transformer learns, the same at every t."""
    return noise - clean


def predict_clean(state: AVPair, velocity: AVPair, t: Float[Tensor, " b"]) -> AVPair:
    """Returns the clip to which a velocity at t points: x_0 = x_t - t v."""
    return AVPair(
        video=state.video - expand_like(t, state.video) * velocity.video,
        audio=state.audio - expand_like(t, state.audio) * velocity.audio,
    )


def _mix(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    t = expand_like(t, clean)
    return (1 - t) * clean + t * noise


def expand_like(t: Tensor, values: Tensor) -> Tensor:
    return t.reshape(-1, *(1,) * (values.ndim - 1))
