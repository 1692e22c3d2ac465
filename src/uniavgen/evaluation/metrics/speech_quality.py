"""Speech quality without a reference: DNSMOS P.835 (Microsoft, MIT), three mean opinion scores from 1 to 5.

The network hears 9.01 s at 16 kHz; shorter sound is repeated, longer sound is heard in steps of a second, and three
polynomials bring its answers to the scale. [arXiv 2110.01763, and its published script]
"""

from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.evaluation.clip import SPEECH_RATE_HZ, Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, heard
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt

NETWORK = "dnsmos"
HEARD_S = 9.01
HEARD_SAMPLES = int(HEARD_S * SPEECH_RATE_HZ)
_SCALES = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovr": (-0.06766283, 1.11546468, 0.04602535),
}
"""Column to quadratic polynomial, highest power first, in the order of the network's answers."""
COLUMNS = tuple(
    Column(name=name, description=f"DNSMOS P.835, {what}; 1 to 5, clean speech has 3 to 4", better=Better.HIGHER)
    for name, what in zip(_SCALES, ("the speech itself", "the background", "overall"), strict=True)
)


class SpeechQuality:
    """How a listener would rate the sound."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, weights: Weights) -> None:
        self.networks = {NETWORK: weights}

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        answers = np.stack([self._listen(part) for part in windows(heard(clip))])
        scores = {
            name: float(np.polyval(scale, answers[:, i]).mean()) for i, (name, scale) in enumerate(_SCALES.items())
        }
        return Measurement(scores=scores)

    def _listen(self, part: Float32[np.ndarray, " samples"]) -> np.ndarray:
        name = self._session.get_inputs()[0].name
        return np.asarray(self._session.run(None, {name: part[None]})[0][0], np.float64)

    @cached_property
    def _session(self) -> Any:
        runtime = needed("onnxruntime", "DNSMOS", "onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = self.networks[NETWORK].path
        try:
            return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except runtime.capi.onnxruntime_pybind11_state.Fail as error:
            raise CheckpointError(f"{path} is no ONNX network ({first_line(error)})") from None
        except runtime.capi.onnxruntime_pybind11_state.InvalidProtobuf:
            raise CheckpointError(f"{path} is no ONNX network; download it again") from None


def windows(waveform: Float32[np.ndarray, " samples"]) -> list[Float32[np.ndarray, " heard"]]:
    """Stretches of 9.01 s, a second apart; sound that is shorter is repeated first."""
    while len(waveform) < HEARD_SAMPLES:
        waveform = np.concatenate([waveform, waveform])
    # The published script rounds the length down to whole seconds.
    count = int(len(waveform) // SPEECH_RATE_HZ - HEARD_S) + 1
    return [waveform[k * SPEECH_RATE_HZ : k * SPEECH_RATE_HZ + HEARD_SAMPLES] for k in range(count)]
