import math
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, Qwen2_5OmniToken2WavBigVGANModel
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniBigVGANConfig

from uniavgen.codecs import mel
from uniavgen.codecs.vocoder import BigVGANVocoder, GriffinLimVocoder, NanoVocoder, Vocoder, as_vocoder
from uniavgen.errors import CheckpointError

HOP = mel.MEL.hop


def small() -> NanoVocoder:
    return NanoVocoder(width=11, hidden=13, num_layers=2)


def bigvgan() -> Qwen2_5OmniToken2WavBigVGANModel:
    config = Qwen2_5OmniBigVGANConfig(
        upsample_initial_channel=64, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3, 5]]
    )
    return Qwen2_5OmniToken2WavBigVGANModel(config).eval()


def test_griffin_lim_restores_the_pitch_of_a_tone():
    hz = 440.0
    time_s = torch.arange(24_000) / 24_000
    waveform = GriffinLimVocoder().decode(mel.log_mel(0.4 * torch.sin(2 * math.pi * hz * time_s)[None]))[0]
    spectrum = torch.fft.rfft(waveform[6000:18000] * torch.hann_window(12_000)).abs()
    assert abs(float(spectrum.argmax()) * 2 - hz) < 12.0


def test_griffin_lim_reproduces_the_mel_and_is_deterministic():
    noise = torch.randn(1, 9600, generator=torch.Generator().manual_seed(0)) * 0.1
    log_mel = mel.log_mel(noise)
    waveform = GriffinLimVocoder().decode(log_mel)
    assert float((mel.log_mel(waveform) - log_mel).abs().mean()) < 0.35
    assert torch.equal(waveform, GriffinLimVocoder().decode(log_mel))


@pytest.mark.parametrize("num_frames", [1, 2, 17])
@pytest.mark.parametrize("make", [GriffinLimVocoder, small, lambda: BigVGANVocoder(bigvgan())])
def test_mel_frame_becomes_a_hop_of_samples(make, num_frames: int):
    vocoder: Vocoder = make()
    waveform = vocoder.decode(torch.zeros(2, num_frames, 80))
    assert waveform.shape == (2, num_frames * HOP)
    assert waveform.isfinite().all()
    assert waveform.abs().max() <= 1


def test_bigvgan_decodes_each_clip_of_a_batch_as_if_alone():
    vocoder = BigVGANVocoder(bigvgan())
    batch = torch.randn(3, 5, 80, generator=torch.Generator().manual_seed(0)) - 5
    alone = torch.cat([vocoder.decode(clip[None]) for clip in batch])
    torch.testing.assert_close(vocoder.decode(batch), alone)


def test_nano_vocoder_is_the_same_after_saving_and_loading(tmp_path: Path):
    vocoder = small().eval()
    vocoder.save_pretrained(tmp_path)
    log_mel = torch.randn(1, 4, 80)
    torch.testing.assert_close(NanoVocoder.from_pretrained(tmp_path).decode(log_mel), vocoder.decode(log_mel))


def test_components_of_a_pipeline_become_vocoders():
    nano, griffin_lim = small(), GriffinLimVocoder()
    assert as_vocoder(nano) is nano
    assert as_vocoder(griffin_lim) is griffin_lim
    assert isinstance(as_vocoder(bigvgan()), BigVGANVocoder)
    other = BertModel(BertConfig(hidden_size=4, num_attention_heads=1, num_hidden_layers=1, intermediate_size=4))
    with pytest.raises(CheckpointError, match="BertModel"):
        as_vocoder(other)
