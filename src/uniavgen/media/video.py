"""Video: frames at a wanted rate by their time stamps, upright, with the sound that belongs to them."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from jaxtyping import Float32, UInt8

from uniavgen.errors import MediaError
from uniavgen.media.audio import read_audio
from uniavgen.media.image import MAX_SIDE_PX, MIN_SIDE_PX
from uniavgen.media.probe import (
    check_complete,
    check_length,
    declared_duration_s,
    find_audio_stream,
    find_video_stream,
    open_media,
    start_time_s,
    to_seconds,
)


@dataclass(frozen=True, kw_only=True)
class Video:
    """A stretch of a video file. Frame 0 and sample 0 belong to the same time."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    fps: Fraction
    waveform: Float32[np.ndarray, " samples"] | None
    """Mono sound, as long as the sound track reaches; None without one, or where none was asked for."""


def read_video(
    path: str | Path,
    fps: Fraction,
    *,
    max_frames: int | None = None,
    start_frame: int = 0,
    rate_hz: int | None = None,
    trim: bool = False,
    short_side_px: int | None = None,
) -> Video:
    """Frames of a file at `fps` from `start_frame` (counted at `fps`) on, and with `rate_hz` its sound too.

    Output frame k is what the file shows at the middle of its time, (k + 1/2) / fps. More than `max_frames` is a
    MediaError, or with `trim` cut there; no more is ever decoded. Frames whose shorter side is above
    `short_side_px` are scaled down to it. MediaError also where the file is missing, damaged, cut off, or has no
    picture track of usable size.
    """
    with open_media(path) as container:
        stream = _checked_track(path, container)
        promised_s = declared_duration_s(container, stream)
        if max_frames is not None and promised_s is not None and not trim:
            # Half a frame, because that is where the next one would be sampled.
            limit_s = float((max_frames + Fraction(1, 2)) / fps)
            check_length(path, "video", promised_s - float(start_frame / fps), limit_s)
        stream.thread_type = "AUTO"
        if start_frame:
            container.seek(int((start_frame / fps + start_time_s(container)) * av.time_base))
        limit = None if max_frames is None else start_frame + max_frames
        sampler = _Sampler(fps=fps, start=start_frame, stop=limit, size=_stored_size(stream, short_side_px))
        frames = list(sampler.run(_timed_frames(container, stream)))
        if sampler.end_s is not None:
            check_complete(path, "video", float(sampler.end_s), promised_s)
        elif not trim:
            raise MediaError(f"{path} has more than {max_frames} frames at {fps} a second; cut it, or pass --trim")
        has_sound = find_audio_stream(container) is not None
    if not frames:
        raise MediaError(f"{path} shows no frame after {float(start_frame / fps):.2f} s; use a longer video")
    waveform = None
    if rate_hz is not None and has_sound:
        start_s, length_s = float(start_frame / fps), float(len(frames) / fps)
        waveform = read_audio(path, rate_hz, start_s=start_s, max_s=length_s, trim=True)
    return Video(frames=np.stack(frames), fps=fps, waveform=waveform)


def count_frames(path: str | Path, fps: Fraction) -> int:
    """Frames that `read_video` would find at `fps`, by the header; MediaError where it does not say."""
    with open_media(path) as container:
        seconds = declared_duration_s(container, _checked_track(path, container))
    if seconds is None:
        raise MediaError(f"{path} does not say how long it is; store it as MP4 first")
    return round(seconds * fps)


def resample_frames(
    frames: UInt8[np.ndarray, "frames height width 3"], fps: Fraction, target: Fraction
) -> UInt8[np.ndarray, "frames2 height width 3"]:
    """The frame that is shown in the middle of each frame at the new rate; at least one."""
    ratio = Fraction(fps) / target
    count = max(int(len(frames) / ratio), 1)
    middles = [int((i + Fraction(1, 2)) * ratio) for i in range(count)]
    return frames[np.minimum(middles, len(frames) - 1)]


class _Sampler:
    """Picks the frame shown at the middle of each output frame's time."""

    def __init__(self, *, fps: Fraction, start: int, stop: int | None, size: tuple[int, int]) -> None:
        self._fps, self._next, self._stop, self._size = fps, start, stop, size
        self.end_s: Fraction | None = None
        """When the last frame ends; None where sampling stopped before the file's end."""

    def run(self, timed: Iterator[tuple[Fraction, Fraction, VideoFrame]]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        shown: VideoFrame | None = None
        end_s = Fraction(0)
        for begin_s, stop_s, frame in timed:
            yield from self._until(begin_s, shown if shown is not None else frame)
            if self._stop is not None and self._next >= self._stop and self._middle() < stop_s:
                return
            shown, end_s = frame, max(end_s, stop_s)
        if shown is not None:
            yield from self._until(end_s, shown)
        self.end_s = end_s

    def _middle(self) -> Fraction:
        return (self._next + Fraction(1, 2)) / self._fps

    def _until(self, time_s: Fraction, frame: VideoFrame) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        picture = None
        while self._middle() < time_s and (self._stop is None or self._next < self._stop):
            picture = _picture(frame, self._size) if picture is None else picture
            self._next += 1
            yield picture


def _timed_frames(container: InputContainer, stream: VideoStream) -> Iterator[tuple[Fraction, Fraction, VideoFrame]]:
    """(begin, end, frame) in seconds since the file begins to play."""
    origin = start_time_s(container)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    for count, frame in enumerate(container.decode(stream)):
        begin_s = count / rate if frame.pts is None else to_seconds(frame.pts, frame.time_base) - origin
        length_s = to_seconds(frame.duration, frame.time_base) if frame.duration else 1 / rate
        yield begin_s, begin_s + length_s, frame


def _picture(frame: VideoFrame, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    scaled = size != (frame.width, frame.height)
    how = Interpolation.AREA if scaled else Interpolation.BICUBIC
    pixels = frame.to_ndarray(format="rgb24", width=size[0], height=size[1], interpolation=how)
    # The display matrix turns counterclockwise, as numpy does.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _stored_size(stream: VideoStream, short_side_px: int | None) -> tuple[int, int]:
    """Width and height before rotation, with square pixels, at most `short_side_px` on the shorter side."""
    width, height = stream.codec_context.width * (stream.sample_aspect_ratio or 1), stream.codec_context.height
    short = min(width, height)
    scale = Fraction(short_side_px) / short if short_side_px is not None and short > short_side_px else Fraction(1)
    return round(width * scale), round(height * scale)


def _checked_track(path: str | Path, container: InputContainer) -> VideoStream:
    stream = find_video_stream(container)
    if stream is None:
        raise MediaError(f"{path} has no picture track; use a video")
    width, height = stream.codec_context.width, stream.codec_context.height
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_SIDE_PX:
        raise MediaError(
            f"the video {path} is {width}x{height} px; a side must have {MIN_SIDE_PX} to {MAX_SIDE_PX} px; scale it"
        )
    return stream
