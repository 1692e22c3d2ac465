"""How loud the sound of a file is, finely enough to be compared with a mouth, without keeping its samples."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uniavgen.media.audio import check_audio
from uniavgen.media.reader import MediaReader


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Level of the sound over time, block by block as it is stored (21 ms for AAC at 48 kHz)."""

    time_s: Float[np.ndarray, " n"]
    """The middle of each block."""
    level: Float[np.ndarray, " n"]
    """Root mean square over full scale."""

    def at(self, times_s: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Returns levels at some times, interpolated; 0 where there is no sound at all."""
        if len(self.time_s) == 0:
            return np.zeros(len(times_s))
        return np.interp(times_s, self.time_s, self.level)


def read_envelope(reader: MediaReader) -> Envelope:
    """Decodes the sound of a file. Raises MediaError where it has none."""
    times, levels = [], []
    for _, time_s, block in reader.frames(check_audio(reader)):
        samples = block.to_ndarray()
        if np.issubdtype(samples.dtype, np.unsignedinteger):
            samples = samples.astype(np.float32) / 128 - 1
        elif np.issubdtype(samples.dtype, np.integer):
            samples = samples / -float(np.iinfo(samples.dtype).min)
        if time_s is not None and samples.size:
            times.append(float(time_s) + block.samples / block.sample_rate / 2)
            levels.append(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    order = np.argsort(times, kind="stable")
    return Envelope(time_s=np.array(times)[order], level=np.array(levels, np.float64)[order])
