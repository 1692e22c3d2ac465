"""An inaudible mark in generated sound, and its detector: Perth's network (Resemble AI, MIT) with our own inference.

Perth changes the magnitudes below 2 kHz of sound at 32 kHz, masked by the speech there, and its detector says in one
number whether a sound carries the mark; there is no message in it. [resemble-perth 1.0.1] The weights are those in
the package `resemble-perth`, found as a file and read without running code of it: its own code imports librosa,
torchaudio and pkg_resources, which it does not declare. Only the change is resampled and added, so that everything
else of the sound stays as it is.

Letters: b batch, bins = NUM_FFT / 2 + 1, l frames, samples.
"""

from functools import cache
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Float32
from torch import Tensor, nn

from uniavgen.provenance.perth_weights import read_perth

RATE_HZ: Final = 32_000
NUM_FFT: Final = 2048
HOP: Final = 320
MARKED_BINS: Final = 128
"""Bins below 2 kHz: `round(bins * 2000 / 16000)`. [resemble-perth hparams.yaml]"""
HIDDEN: Final = 256
FLOOR: Final = 1e-9
FLOOR_DB, HEADROOM_DB = -180.0, 15.0
STRENGTH: Final = 0.8
"""Share of Perth's change that is added: whole, it costs DistillMOS 0.08 points, so 0.05. [measured]"""
SILENT_SHARE: Final = 0.05
"""Frames whose summed magnitude is below this share of the largest carry no mark."""
STRETCHES: Final = (1.25, 1.0, 0.75)
"""Speeds at which the detector listens."""
MIN_SAMPLES: Final = NUM_FFT
"""At RATE_HZ; shorter sounds are neither marked nor judged."""
SCORE_THRESHOLD: Final = 0.6
"""Stretches without the mark stay below 0.4, those with it above 0.9. [measured, docs/provenance.md]"""
MIN_FLATNESS_DB: Final = -35.0
"""Flatness of the band below which a sound is a pure tone, which the detector takes for the mark: tones have -50 and
less, speech with the mark -24 and more. [measured]"""
RAMP_S: Final = 0.01
"""Over which the mark begins behind given sound."""


class _Convolution(nn.Module):
    def __init__(self, width_in: int, width_out: int, kernel: int, is_last: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width_in, width_out, kernel, padding=kernel // 2)
        self.is_last = is_last

    def forward(self, values: Float[Tensor, "b c l"]) -> Float[Tensor, "b c2 l"]:
        values = self.conv(values)
        return values if self.is_last else F.leaky_relu(values)


def _layers(width_out: int) -> nn.Sequential:
    return nn.Sequential(
        _Convolution(MARKED_BINS, HIDDEN, 1),
        *(_Convolution(HIDDEN, HIDDEN, 7) for _ in range(5)),
        _Convolution(HIDDEN, width_out, 1, is_last=True),
    )


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _layers(MARKED_BINS)

    def forward(self, magnitude: Float[Tensor, "b bins l"]) -> Float[Tensor, "b bins l"]:
        """Returns the marked magnitudes."""
        change = self.layers(magnitude[:, :MARKED_BINS]) * _audible(magnitude)
        return torch.cat([magnitude[:, :MARKED_BINS] + change, magnitude[:, MARKED_BINS:]], dim=1)


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slow_layers = _layers(2)
        self.normal_layers = _layers(2)
        self.fast_layers = _layers(2)

    def forward(self, magnitude: Float[Tensor, "b bins l"]) -> Float[Tensor, " b"]:
        """Returns the score of each sound: near 1 with the mark, near 0 without; not bounded."""
        band, audible, length = magnitude[:, :MARKED_BINS], _audible(magnitude), magnitude.shape[-1]
        pairs = []
        for layers, stretch in zip((self.slow_layers, self.normal_layers, self.fast_layers), STRETCHES, strict=True):
            size = int(length * stretch)
            stretched = band if stretch == 1 else F.interpolate(band, size=size, mode="linear", align_corners=True)
            weights = F.interpolate(audible, size=size, mode="nearest")
            pairs.append((layers(stretched) * weights).sum(dim=2) / weights.sum(dim=2))
        attention, marks = torch.stack(pairs, dim=-1).unbind(dim=1)
        return (marks * attention.softmax(dim=-1)).sum(dim=-1)


class PerthNetwork(nn.Module):
    """Encoder and decoder under the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.decoder = _Decoder()


def _audible(magnitude: Float[Tensor, "b bins l"]) -> Float[Tensor, "b 1 l"]:
    """Returns 1 for the frames that are loud enough to carry the mark."""
    loudness = magnitude.sum(dim=1, keepdim=True)
    return (loudness > loudness.amax(dim=2, keepdim=True) * SILENT_SHARE).to(magnitude)


@cache
def _network() -> PerthNetwork:
    network = PerthNetwork()
    network.load_state_dict(read_perth())
    return network.eval().requires_grad_(False)


def _spectrum(waveform: Float32[np.ndarray, " samples"]) -> Complex[Tensor, "1 bins l"]:
    return torch.stft(
        torch.from_numpy(waveform)[None], NUM_FFT, HOP, window=torch.hann_window(NUM_FFT), return_complex=True
    )


def _magnitude(spectrum: Complex[Tensor, "1 bins l"]) -> Float[Tensor, "1 bins l"]:
    """Returns decibels, with 0 at FLOOR_DB and 1 at HEADROOM_DB."""
    return (20 * spectrum.abs().clamp(min=FLOOR).log10() - FLOOR_DB) / (HEADROOM_DB - FLOOR_DB)


def _resampled(
    waveform: Float32[np.ndarray, " samples"], rate_hz: int, target_hz: int
) -> Float32[np.ndarray, " samples2"]:
    """Returns the sound at another rate, by its spectrum; scipy.signal would take a second to import."""
    length = round(len(waveform) * target_hz / rate_hz)
    if rate_hz == target_hz or not length:
        return waveform[:length]
    spectrum = np.fft.rfft(waveform)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(waveform))).astype(np.float32)


@torch.inference_mode()
def mark_sound(
    waveform: Float32[np.ndarray, " samples"], rate_hz: int, num_given: int = 0
) -> Float32[np.ndarray, " samples"]:
    """Returns the waveform with the mark behind its first `num_given` samples, which stay as they are.

    Sound of less than MIN_SAMPLES is returned as it is.
    """
    generated = waveform[num_given:]
    at_rate = _resampled(generated, rate_hz, RATE_HZ)
    if len(at_rate) < MIN_SAMPLES or not np.any(generated):
        return waveform
    spectrum = _spectrum(at_rate)
    magnitude = _magnitude(spectrum)
    change_db = (_network().encoder(magnitude) - magnitude) * (HEADROOM_DB - FLOOR_DB) * STRENGTH
    changed = spectrum * (10 ** (change_db / 20) - 1)
    change = torch.istft(changed, NUM_FFT, HOP, window=torch.hann_window(NUM_FFT), length=len(at_rate))[0]
    added = _resampled(change.numpy(), RATE_HZ, rate_hz)[: len(generated)]
    if num_given:
        ramp = round(RAMP_S * rate_hz)
        added[:ramp] *= np.linspace(0, 1, ramp, dtype=np.float32)[: len(added)]
    marked = waveform.copy()
    marked[num_given : num_given + len(added)] = np.clip(generated[: len(added)] + added, -1, 1)
    return marked


@torch.inference_mode()
def sound_score(waveform: Float32[np.ndarray, " samples"], rate_hz: int) -> float | None:
    """Returns the detector's score in [0, 1] for a sound; None where it is silent, too short, or pure tones."""
    at_rate = _resampled(waveform, rate_hz, RATE_HZ)
    if len(at_rate) < MIN_SAMPLES or not np.any(at_rate):
        return None
    magnitude = _magnitude(_spectrum(at_rate))
    if _flatness_db(magnitude) < MIN_FLATNESS_DB:
        return None
    score = _network().decoder(magnitude)
    return None if score.isnan() else float(score.clamp(0, 1))


def _flatness_db(magnitude: Float[Tensor, "1 bins l"]) -> float:
    """Returns the geometric over the arithmetic mean of the power in the marked band, averaged over audible frames."""
    audible = _audible(magnitude)[0, 0] > 0
    decibels = magnitude[0, 1 : MARKED_BINS + 1, audible] * (HEADROOM_DB - FLOOR_DB) + FLOOR_DB
    return float((decibels.mean(dim=0) - 10 * (10 ** (decibels / 10)).mean(dim=0).log10()).mean())
