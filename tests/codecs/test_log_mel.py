import math

import pytest
import torch

from uniavgen.codecs import mel
from uniavgen.codecs.mel import MEL, MelConfig
from uniavgen.codecs.stft import inverse_stft, stft
from uniavgen.errors import ConfigError, MediaError
from uniavgen.timebase import Timebase


def tone(hz: float, seconds: float = 0.5) -> torch.Tensor:
    time_s = torch.arange(round(seconds * MEL.sample_rate_hz)) / MEL.sample_rate_hz
    return 0.5 * torch.sin(2 * math.pi * hz * time_s)[None]


def test_mel_has_one_frame_per_audio_token():
    timing = Timebase().clip(81)
    assert mel.log_mel(torch.zeros(2, timing.num_samples)).shape == (2, 506, 80)
    assert mel.log_mel(torch.zeros(1, 24_000 + 239)).shape == (1, 100, 80)


def test_log_mel_of_silence_is_the_floor():
    # The floor under the root alone gives about sqrt(1e-9) times the filters' sum, below the floor of the logarithm.
    assert torch.allclose(mel.log_mel(torch.zeros(1, 2400)), torch.full((1, 10, 80), math.log(1e-5)))


def test_log_mel_of_a_tone_is_largest_in_its_band():
    loudest = mel.log_mel(tone(1000.0))[0, 20].argmax()
    centre = mel.filter_bank()[:, loudest].argmax() * MEL.sample_rate_hz / MEL.num_fft
    assert abs(float(centre) - 1000.0) < 40.0


def test_normalisation_round_trip_is_the_releases():
    values = torch.randn(2, 7, 80, dtype=torch.float64)
    assert torch.allclose(mel.denormalise(mel.normalise(values)), values)
    assert float(mel.normalise(torch.full((1, 1, 80), -5.1753)).abs().max()) < 1e-6
    assert mel.NORMALISATION.std == 2.1544


def test_peak_normalisation_keeps_silence():
    loud = mel.peak_normalise(torch.tensor([[0.1, -0.5], [0.0, 0.0]]))
    assert loud.abs().amax(dim=1).tolist() == pytest.approx([0.999146, 0.0])


def test_gradients_reach_the_waveform():
    waveform = torch.zeros(1, 1200, dtype=torch.float64).normal_(generator=torch.Generator().manual_seed(0))
    waveform.requires_grad_()
    mel.log_mel(waveform).sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()
    assert waveform.grad.abs().min() > 0


def test_waveform_that_is_too_short_is_refused():
    with pytest.raises(MediaError, match="more than 392 samples"):
        mel.log_mel(torch.zeros(1, 392))
    with pytest.raises(ConfigError, match="even"):
        MelConfig(num_fft=1023)


@pytest.mark.parametrize(("num_fft", "hop"), [(1024, 240), (960, 240), (64, 16)])
def test_stft_round_trip_is_identity(num_fft: int, hop: int):
    waveform = torch.randn(2, 12 * hop, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if waveform.shape[1] <= (num_fft - hop) // 2:
        waveform = waveform.repeat(1, 4)
    spectrum = stft(waveform, num_fft, hop)
    assert spectrum.shape == (2, num_fft // 2 + 1, waveform.shape[1] // hop)
    assert torch.allclose(inverse_stft(spectrum, num_fft, hop), waveform, atol=1e-10)
