"""Speech quality without a reference: DNSMOS P.835 (Microsoft, MIT), three mean opinion scores from 1 to 5.

The network takes 9.01 s at 16 kHz; shorter sound is repeated, longer sound is measured in windows one second apart,
and three polynomials bring its outputs to the scale. [arXiv 2110.01763, and its published script]
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.errors import CheckpointError
from uniavgen.perception.packages import require
from uniavgen.perception.sound import SPEECH_RATE_HZ

DNSMOS_PACKAGES = {"onnxruntime": "onnxruntime"}
WINDOW_S = 9.01
WINDOW_SAMPLES = int(WINDOW_S * SPEECH_RATE_HZ)
SCALES = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovr": (-0.06766283, 1.11546468, 0.04602535),
}
"""Speech, background and overall, in the order of the network's outputs: quadratic polynomial, highest power first."""


class Dnsmos:
    """The network as an ONNX file."""

    def __init__(self, path: Path) -> None:
        runtime: Any = require("onnxruntime", "DNSMOS", "onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        states = runtime.capi.onnxruntime_pybind11_state
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except (states.Fail, states.InvalidProtobuf) as error:
            raise CheckpointError(f"{path} is no ONNX network; download it again") from error

    def scores(self, waveform: Float32[np.ndarray, " samples"]) -> dict[str, float]:
        """Returns the scores of a 16 kHz waveform by the names of SCALES, as means over its windows."""
        name = self._session.get_inputs()[0].name
        outputs = np.stack(
            [
                np.asarray(self._session.run(None, {name: window[None]})[0][0], np.float64)
                for window in dnsmos_windows(waveform)
            ]
        )
        return {key: float(np.polyval(scale, outputs[:, i]).mean()) for i, (key, scale) in enumerate(SCALES.items())}


def dnsmos_windows(waveform: Float32[np.ndarray, " samples"]) -> list[Float32[np.ndarray, " window"]]:
    """Returns windows of 9.01 s, one second apart; shorter sound is repeated first."""
    while len(waveform) < WINDOW_SAMPLES:
        waveform = np.concatenate([waveform, waveform])
    # The published script rounds the length down to whole seconds.
    count = int(len(waveform) // SPEECH_RATE_HZ - WINDOW_S) + 1
    return [waveform[k * SPEECH_RATE_HZ : k * SPEECH_RATE_HZ + WINDOW_SAMPLES] for k in range(count)]
