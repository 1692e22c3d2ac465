"""How loud the sound is, where it is clipped, and where there is none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uniavgen.config import Config
from uniavgen.config.values import PositiveInt, Share
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.audio import check_audio
from uniavgen.media.audio_stream import stream_audio
from uniavgen.media.loudness import SILENCE_LUFS, LoudnessMeter
from uniavgen.media.reader import open_media

_SPEECH_RANGE_LU = 15.0
"""Quieter seconds than the loudest of an interval by more than this hold little speech. [ours]"""


@dataclass(frozen=True, kw_only=True)
class LoudnessConfig(Config):
    """Settings of `LoudnessStage`."""

    block_s: PositiveInt = 60
    """Sound that is in memory at once."""
    near_peak: Share = 0.95
    """Samples above this part of the loudest one of their second count as at the peak; lossy codecs make flat tops
    wavy. [ours, measured]"""


class LoudnessStage(Stage):
    """Measures every second.

    Values: integrated_lufs (BS.1770, gated; -70 is silence); clipping_share, of all samples, at the peak of their
    second; silence_share, of all seconds.
    Arrays: lufs of every second; peak of every second, its loudest sample over full scale, all channels; clipping, the
    share of samples at the peak. Speech has seconds of up to 0.005, speech that was cut off at its peaks of 0.01 and
    more, also where it was made quieter later and coded anew.
    """

    name = "loudness"
    version = 2
    settings_class = LoudnessConfig
    settings: LoudnessConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        del inputs
        peaks, shares, lengths = [], [], []
        with open_media(source.path, quiet=True) as reader:
            rate_hz = check_audio(reader).codec_context.sample_rate
            meter: LoudnessMeter | None = None
            for block in stream_audio(reader, rate_hz, float(self.settings.block_s), "flt"):
                meter = meter or LoudnessMeter(rate_hz, len(block))
                meter.push(block)
                for at in range(0, block.shape[1], rate_hz):
                    second = block[:, at : at + rate_hz]
                    peak, share = self._peaks(second)
                    peaks.append(peak)
                    shares.append(share)
                    lengths.append(second.shape[1])
        if meter is None:
            return StageOutput(reason="the sound track is empty")
        curve = meter.curve_lufs()
        values = {
            "integrated_lufs": round(meter.integrated_lufs(), 2),
            "clipping_share": round(float(np.average(shares, weights=lengths)), 6),
            "silence_share": float(np.mean(curve <= SILENCE_LUFS)) if len(curve) else 1.0,
        }
        # The meter leaves out what is beyond a whole tenth of a second, and with it the last second where that is all.
        arrays = {"lufs": curve, "peak": np.array(peaks)[: len(curve)], "clipping": np.array(shares)[: len(curve)]}
        return StageOutput(values=values, arrays={name: array.astype(np.float32) for name, array in arrays.items()})

    def _peaks(self, samples: Float[np.ndarray, "c samples"]) -> tuple[float, float]:
        """Returns the peak and the share of samples near it; of the channel where that is largest."""
        sizes = np.abs(samples)
        peaks = sizes.max(axis=1)
        near = (sizes >= self.settings.near_peak * peaks[:, None]).mean(axis=1)
        return float(peaks.max()), float(near[peaks > 0].max(initial=0.0))


def loudness_between(output: StageOutput, start_s: float, end_s: float) -> dict[str, float]:
    """Returns mean loudness, and peak and clipping of the worst second, of what `LoudnessStage` says of an interval.

    Seconds without speech cannot be clipped: of a hum many samples are near its peak.
    """
    seconds = slice(int(start_s), max(int(np.ceil(end_s)), int(start_s) + 1))
    lufs, peak, clipping = (output.arrays[name][seconds] for name in ("lufs", "peak", "clipping"))
    if not len(lufs):
        return {"lufs": SILENCE_LUFS, "peak": 0.0, "clipping": 0.0}
    return {
        "lufs": round(float(10 * np.log10(np.mean(10 ** (lufs.astype(np.float64) / 10)))), 2),
        "peak": round(float(peak.max()), 4),
        "clipping": round(float(clipping[lufs > lufs.max() - _SPEECH_RANGE_LU].max()), 5),
    }
