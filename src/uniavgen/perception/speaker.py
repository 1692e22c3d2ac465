"""Speaker embeddings by CAM++ on Kaldi's filter bank."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32

from uniavgen.perception.campplus import MEL_BINS, CamPlusPlus
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.loading import load_published
from uniavgen.perception.packages import require
from uniavgen.perception.sound import SPEECH_RATE_HZ

SPEAKER_PACKAGES = {"kaldi_native_fbank": "kaldi-native-fbank"}
MIN_S = 0.5
"""Shorter sound says nothing about a voice. [ours]"""


class SpeakerEncoder:
    """16 kHz waveforms to unit vectors of 192 numbers."""

    def __init__(self, path: Path) -> None:
        self._network = load_published(CamPlusPlus(), path, "CAM++ (3D-Speaker)")

    @torch.no_grad()
    def embed(self, waveform: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, " d"]:
        """Returns the embedding; NotMeasured for less than half a second."""
        if len(waveform) < MIN_S * SPEECH_RATE_HZ:
            raise NotMeasured(f"the sound lasts {len(waveform) / SPEECH_RATE_HZ:.2f} s; {MIN_S} s or more are needed")
        mel = torch.from_numpy(filter_bank(waveform))
        vector = self._network((mel - mel.mean(dim=0))[None])[0].double().numpy()
        return vector / np.linalg.norm(vector)


def filter_bank(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames mel"]:
    """Returns Kaldi's log filter bank of 80 bins, 25 ms every 10 ms, without dither."""
    kaldi = require("kaldi_native_fbank", "speaker similarity", "kaldi-native-fbank")
    options = kaldi.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = SPEECH_RATE_HZ
    options.mel_opts.num_bins = MEL_BINS
    bank = kaldi.OnlineFbank(options)
    bank.accept_waveform(SPEECH_RATE_HZ, waveform.tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)]).astype(np.float32)
