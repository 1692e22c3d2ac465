"""Short-time Fourier transform with "same" framing: `samples = frames * hop`, no centre padding.

A frame's window reaches `(num_fft - hop) / 2` samples past its hop on either side; outside the signal it sees the
reflected border. `torch.istft` refuses this framing, so the inverse is a plain overlap-add.

Letters: b batch, l frames, bins = num_fft / 2 + 1.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor


def stft(waveform: Float[Tensor, "b samples"], num_fft: int, hop: int) -> Complex[Tensor, "b bins l"]:
    """Returns the Hann-windowed spectrum with `l = samples // hop` frames; needs more than `(num_fft - hop) / 2`
    samples."""
    pad = (num_fft - hop) // 2
    padded = F.pad(waveform[:, None], (pad, pad), mode="reflect")[:, 0]
    window = torch.hann_window(num_fft, device=waveform.device, dtype=waveform.dtype)
    return torch.stft(padded, num_fft, hop, window=window, center=False, return_complex=True)


def inverse_stft(spectrum: Complex[Tensor, "b bins l"], num_fft: int, hop: int) -> Float[Tensor, "b samples"]:
    """Returns the least-squares waveform of a spectrum: windowed overlap-add over the sum of squared windows; `l * hop`
    samples."""
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
