"""Frames of a video one after another, so that memory does not grow with its length: all of them, or at given times."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from uniavgen.media.reader import MediaReader, to_seconds
from uniavgen.media.video import check_video, display_matrix, frame_rate, square_pixel_size, upright_pixels

_SEEK_GAP_S: Final = 10
"""Key frames are that far apart with usual encoders; over a shorter gap decoding on costs less than a seek. [ours]"""


@dataclass(frozen=True, kw_only=True)
class ShownFrame:
    """A frame and when it begins to be shown."""

    time_s: float
    pixels: UInt8[np.ndarray, "h w 3"]


def stream_frames(
    reader: MediaReader, short_side_px: int | None = None, max_fps: float | None = None
) -> Iterator[ShownFrame]:
    """Yields the frames of a file, scaled down to `short_side_px`, without those that come sooner than `max_fps` says.

    Raises MediaError where the file has no picture track of usable size.
    """
    stream = check_video(reader)
    size = square_pixel_size(stream, short_side_px)
    # A tenth less than the interval, since time stamps are rounded.
    interval_s = 0 if max_fps is None else 0.9 / max_fps
    last_s = None
    for begin_s, _, frame, matrix in _timed_frames(reader, stream, Fraction(0)):
        if last_s is None or begin_s >= last_s + interval_s:
            last_s = begin_s
            yield ShownFrame(time_s=float(begin_s), pixels=upright_pixels(frame, size, matrix))


def sample_frames(
    reader: MediaReader, times_s: Sequence[float], short_side_px: int | None = None
) -> Iterator[ShownFrame]:
    """Yields what a file shows at ascending times, one frame a time, up to its end; seeks over long gaps between them.

    Before the first frame there is nothing else to show than it. Raises MediaError where the file has no picture track
    of usable size.
    """
    stream = check_video(reader)
    size = square_pixel_size(stream, short_side_px)
    waiting = deque(times_s)
    while waiting:
        from_s, shown, end_s, jumps = waiting[0], None, Fraction(0), False
        for begin_s, end_s, frame, matrix in _timed_frames(reader, stream, Fraction(from_s)):
            while shown is not None and waiting and waiting[0] < begin_s:
                waiting.popleft()
                yield ShownFrame(time_s=float(shown[0]), pixels=upright_pixels(shown[1], size, shown[2]))
            if shown is None or begin_s > shown[0]:
                shown = (begin_s, frame, matrix)
            # After a seek that went back to the beginning everything is decoded.
            jumps = bool(waiting) and reader.can_seek and waiting[0] > max(end_s + _SEEK_GAP_S, Fraction(from_s))
            if jumps or not waiting:
                break
        while shown is not None and waiting and waiting[0] < end_s and not jumps:
            waiting.popleft()
            yield ShownFrame(time_s=float(shown[0]), pixels=upright_pixels(shown[1], size, shown[2]))
        if not jumps:
            return


def _timed_frames(
    reader: MediaReader, stream: VideoStream, from_s: Fraction
) -> Iterator[tuple[Fraction, Fraction, VideoFrame, tuple[int, int, int, int]]]:
    """Yields when each frame begins and ends, the frame, and the display matrix, which is read of the first frame.

    A frame without a time stamp follows the one before.
    """
    frame_s = 1 / frame_rate(stream)
    end_s = Fraction(0)
    matrix = None
    for _, time_s, frame in reader.frames(stream, from_s=from_s):
        begin_s = end_s if time_s is None else time_s
        end_s = begin_s + (to_seconds(frame.duration, frame.time_base) if frame.duration else frame_s)
        matrix = matrix or display_matrix(frame)
        yield begin_s, end_s, frame, matrix
