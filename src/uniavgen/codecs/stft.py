"""Computes short-time Fourier transforms with "same" framing: `samples = frames * hop`, no centre padding.

The window of a frame extends `(num_fft - hop) / 2` samples past its hop on either side; the signal is reflected at its
ends. `torch.istft` refuses this framing, so the inverse is an overlap-add.

Letters: b batch, l frames, bins = num_fft / 2 + 1.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor


def stft(waveform: Float[Tensor, "b samples"], num_fft: int, hop: int) -> Complex[Tensor, "b bins l"]:
    """Returns the spectrum under a Hann window, with `l = samples // hop`.

    Takes more than `(num_fft - hop) / 2` samples, which are reflected at either end.
    """
    pad = (num_fft - hop) // 2
    padded = F.pad(waveform[:, None], (pad, pad), mode="reflect")[:, 0]
    window = torch.hann_window(num_fft, device=waveform.device, dtype=waveform.dtype)
    return torch.stft(padded, num_fft, hop, window=window, center=False, return_complex=True)


def inverse_stft(spectrum: Complex[Tensor, "b bins l"], num_fft: int, hop: int) -> Float[Tensor, "b samples"]:
    """Returns the waveform whose spectrum is closest, with `samples = l * hop`.

    x = sum_i w irfft(S_i) / sum_i w^2, with the frames i of the spectrum S added at their positions (Griffin-Lim 1984).
    """
    pad = (num_fft - hop) // 2
    num_frames = spectrum.shape[-1]
    window = torch.hann_window(num_fft, device=spectrum.device, dtype=spectrum.real.dtype)
    frames = torch.fft.irfft(spectrum, n=num_fft, dim=1) * window[:, None]
    weights = window.square()[None, :, None].expand(1, -1, num_frames)
    size = ((num_frames - 1) * hop + num_fft, 1)
    fold = {"output_size": size, "kernel_size": (num_fft, 1), "stride": (hop, 1)}
    summed, envelope = F.fold(frames, **fold), F.fold(weights, **fold)
    inside = slice(pad, pad + num_frames * hop)
    return summed[:, 0, inside, 0] / envelope[:, 0, inside, 0].clamp(min=1e-8)
