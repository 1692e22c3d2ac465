"""Computes the straight path of rectified flow between a clip x_0 and noise eps. [paper eq. (1), (2)]

    x_t = (1 - t) x_0 + t eps,   v = dx_t/dt = eps - x_0,   t in [0, 1]

Letters: b batch.
"""

from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair


def interpolate(clean: AVPair, noise: AVPair, t: Float[Tensor, " b"] | AVPair) -> AVPair:
    """Returns x_t = (1 - t) x_0 + t eps, with one time for both modalities of a sample, or one a modality."""
    times = AVPair.of(t)
    return AVPair(
        video=_mix(clean.video, noise.video, times.video),
        audio=_mix(clean.audio, noise.audio, times.audio),
    )


def target_velocity(clean: AVPair, noise: AVPair) -> AVPair:
    """Returns v = eps - x_0, the velocity that the transformer learns to predict; it is the same at every t."""
    return noise - clean


def predict_clean(state: AVPair, velocity: AVPair, t: Float[Tensor, " b"] | AVPair) -> AVPair:
    """Returns x_0 = x_t - t v, the clip to which the velocity at time t points."""
    times = AVPair.of(t)
    return AVPair(
        video=state.video - expand_like(times.video, state.video) * velocity.video,
        audio=state.audio - expand_like(times.audio, state.audio) * velocity.audio,
    )


def _mix(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    t = expand_like(t, clean)
    return (1 - t) * clean + t * noise


def expand_like(t: Tensor, values: Tensor) -> Tensor:
    """Returns one number a sample with trailing axes of size 1, so that it broadcasts against `values`."""
    return t.reshape(-1, *(1,) * (values.ndim - 1))
