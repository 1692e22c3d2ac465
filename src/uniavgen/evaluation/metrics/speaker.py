"""Whose voice it is: CAM++ embeddings of the clip against the reference voice and against other clips. [ours]"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32

from uniavgen.errors import MediaError
from uniavgen.evaluation.campplus import MEL_BINS, CamPlusPlus
from uniavgen.evaluation.clip import SPEECH_RATE_HZ, Clip
from uniavgen.evaluation.loading import load_weights
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured, heard
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.audio import read_audio

NETWORK = "speaker"
EMBEDDING = "embedding/speaker"
LEAST_S = 0.5
"""Shorter sound says nothing about a voice. [ours]"""
COLUMNS = (
    Column(
        name="speaker_similarity",
        description="cosine of the speaker embedding (CAM++) of the clip with that of the prompt's voice; "
        "-1 to 1, chance is near 0",
        better=Better.HIGHER,
    ),
    Column(
        name="speaker_across",
        description="mean cosine of the speaker embedding with those of the system's other clips of the same person",
        better=Better.HIGHER,
    ),
)


class SpeakerSimilarity:
    """Speaker embeddings of clips and voices."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, weights: Weights) -> None:
        self.networks = {NETWORK: weights}

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        own = self._embed(heard(clip))
        details = {EMBEDDING: [round(float(value), 4) for value in own]}
        try:
            scores, reasons = {"speaker_similarity": float(own @ self._reference(prompt))}, {}
        except NotMeasured as reason:
            scores, reasons = {}, {"speaker_similarity": str(reason)}
        return Measurement(scores=scores, reasons=reasons, details=details)

    def combine(
        self, prompts: Sequence[Prompt], details: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, float | str]]:
        """`speaker_across` of every clip, or why it has none; `details` by id."""
        vectors = {name: np.array(found[EMBEDDING]) for name, found in details.items() if EMBEDDING in found}
        people = {prompt.id: prompt.person for prompt in prompts}
        found: dict[str, Mapping[str, float | str]] = {}
        for name, own in vectors.items():
            others = [v for other, v in vectors.items() if other != name and people[other] == people[name]]
            if not people[name]:
                found[name] = {"speaker_across": "the prompt does not say whose person it is"}
            elif not others:
                found[name] = {"speaker_across": "there is no other clip of this person"}
            else:
                found[name] = {"speaker_across": float(np.mean([own @ other for other in others]))}
        return found

    def _reference(self, prompt: Prompt) -> Float[np.ndarray, " d"]:
        if prompt.voice is None:
            raise NotMeasured("the prompt has no voice")
        try:
            return self._embed(read_audio(prompt.voice, SPEECH_RATE_HZ))
        except MediaError as error:
            raise NotMeasured(str(error).replace(str(prompt.voice), prompt.voice.name)) from None

    @torch.no_grad()
    def _embed(self, waveform: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, " d"]:
        """Unit vector."""
        if len(waveform) < LEAST_S * SPEECH_RATE_HZ:
            raise NotMeasured(f"the sound lasts {len(waveform) / SPEECH_RATE_HZ:.2f} s; {LEAST_S} s or more are needed")
        mel = torch.from_numpy(filter_bank(waveform))
        vector = self._network((mel - mel.mean(dim=0))[None])[0].double().numpy()
        return vector / np.linalg.norm(vector)

    @cached_property
    def _network(self) -> CamPlusPlus:
        return load_weights(CamPlusPlus(), self.networks[NETWORK].path, "CAM++ (3D-Speaker)")


def filter_bank(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames mel"]:
    """Kaldi's log filter bank of 80 bins, 25 ms every 10 ms, without dither."""
    kaldi = needed("kaldi_native_fbank", "speaker similarity", "kaldi-native-fbank")
    options = kaldi.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = SPEECH_RATE_HZ
    options.mel_opts.num_bins = MEL_BINS
    bank = kaldi.OnlineFbank(options)
    bank.accept_waveform(SPEECH_RATE_HZ, waveform.tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)]).astype(np.float32)
