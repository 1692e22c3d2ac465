"""Small clips of sources, to be watched in a page."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from uniavgen.data_engine.candidates import Candidate
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.windows import sound_offset_s
from uniavgen.errors import MediaError
from uniavgen.media.audio import read_audio
from uniavgen.media.packing import encode_mp4
from uniavgen.media.video import read_video

SHORT_SIDE_PX: Final = 240
MAX_S: Final = 8.0
"""About 200 kB at this size. [ours]"""
_FPS, _RATE_HZ, _CRF = 16, 24_000, 30


@dataclass(frozen=True, kw_only=True)
class PreviewSpan:
    """What is shown of a source."""

    source: SourceVideo
    start_s: float = 0.0
    seconds: float = MAX_S
    sound_offset_s: float = 0.0
    """How much later the sound that belongs to the pictures is read."""

    @classmethod
    def of(cls, candidate: Candidate) -> "PreviewSpan":
        """Returns the beginning of a candidate, with sound as a clip of it has."""
        seconds = min(candidate.end_s - candidate.start_s, MAX_S)
        offset_s = sound_offset_s(candidate)
        return cls(source=candidate.source, start_s=candidate.start_s, seconds=seconds, sound_offset_s=offset_s)


def cut_preview(span: PreviewSpan) -> bytes:
    """Returns an mp4, silent where the source has no sound there. Raises MediaError where it has no pictures."""
    start_frame, num_frames = round(span.start_s * _FPS), max(round(span.seconds * _FPS), 1)
    video = read_video(
        span.source.path,
        Fraction(_FPS),
        start_frame=start_frame,
        max_frames=num_frames,
        trim=True,
        short_side_px=SHORT_SIDE_PX,
    )
    frames = video.frames[:, : video.frames.shape[1] // 2 * 2, : video.frames.shape[2] // 2 * 2]
    start_s, seconds = max(start_frame / _FPS + span.sound_offset_s, 0.0), len(frames) / _FPS
    try:
        waveform = read_audio(span.source.path, _RATE_HZ, start_s=start_s, max_s=seconds, trim=True)
    except MediaError:
        waveform = np.zeros(1, np.float32)
    waveform = waveform[: round(seconds * _RATE_HZ)]
    waveform = np.pad(waveform, (0, round(seconds * _RATE_HZ) - len(waveform)))
    return encode_mp4(frames, _FPS, waveform, _RATE_HZ, crf=_CRF)
