"""Video files to frames: at one rate by their time stamps, upright, with the audio that belongs to them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from jaxtyping import Float32, UInt8

from uniavgen.errors import MediaError
from uniavgen.media.audio import AudioCollector, check_audio
from uniavgen.media.image import MAX_SIDE_PX, MIN_SIDE_PX
from uniavgen.media.reader import FrameSink, MediaFile, MediaReader, Track, open_media, to_seconds
from uniavgen.media.tone_mapping import is_hdr, tone_mapped

DEFAULT_FPS: Final = Fraction(25)
"""Where a file does not say."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A stretch of a video file. Frame 0 and sample 0 belong to the same time."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    fps: Fraction
    waveform: Float32[np.ndarray, " samples"] | None
    """Mono, as long as the sound track reaches; None without sound there, or where none was requested."""


def read_video(
    file: MediaFile,
    fps: Fraction,
    *,
    max_frames: int | None = None,
    start_frame: int = 0,
    rate_hz: int | None = None,
    trim: bool = False,
    short_side_px: int | None = None,
    name: str | None = None,
) -> Video:
    """Opens a file, called `name` in messages, and decodes it as `decode_video` does."""
    with open_media(file, name=name) as reader:
        return decode_video(
            reader,
            fps,
            max_frames=max_frames,
            start_frame=start_frame,
            rate_hz=rate_hz,
            trim=trim,
            short_side_px=short_side_px,
        )


def decode_video(
    reader: MediaReader,
    fps: Fraction,
    *,
    max_frames: int | None = None,
    start_frame: int = 0,
    rate_hz: int | None = None,
    trim: bool = False,
    short_side_px: int | None = None,
) -> Video:
    """Returns the frames of a file at `fps` from `start_frame` (counted at `fps`) on, and with `rate_hz` its audio too.

    Output frame k is what the file shows at the middle of its time, (k + 1/2) / fps. With `max_frames` no more than
    that is decoded: longer video is cut with `trim`, else a MediaError. Frames whose shorter side is above
    `short_side_px` are scaled down to it. Damaged packets and a missing end are left out and noted in the log. Raises
    MediaError where the file has no picture track of usable size, or shows nothing in that stretch.
    """
    stream = check_video(reader)
    start_s = start_frame / fps
    limit = None if max_frames is None else start_frame + max_frames
    sampler = _Sampler(stream, fps, (start_frame, limit), short_side_px)
    sinks: list[tuple[Track, FrameSink]] = [(stream, sampler)]
    audio = None
    if rate_hz is not None and reader.audio is not None:
        stretch_s = (float(start_s), None if limit is None else float(limit / fps))
        audio = AudioCollector(reader, check_audio(reader), rate_hz, stretch_s)
        sinks.append((reader.audio, audio))
    reader.decode(*sinks, from_s=start_s)
    if not sampler.is_done:
        reader.check_complete(stream, float(sampler.end_s))
    elif not trim:
        raise reader.too_long(stream, float(start_s), float((max_frames or 0) / fps))
    if not sampler.frames:
        raise MediaError(f"{reader.name} shows no frame after {float(start_s):.2f} s; use a longer video")
    waveform = None if audio is None else audio.samples(float(start_s + len(sampler.frames) / fps))[0]
    has_sound = waveform is not None and len(waveform) > 0
    return Video(frames=np.stack(sampler.frames), fps=fps, waveform=waveform if has_sound else None)


def count_frames(reader: MediaReader, fps: Fraction) -> int:
    """Returns how many frames `decode_video` finds at `fps`, by the time stamps of all packets, which it reads."""
    stream = check_video(reader)
    end_s = Fraction(0)
    for packet in reader.packets(stream):
        ticks = packet.dts if packet.pts is None else packet.pts
        if not packet.is_discard and ticks is not None:
            length_s = to_seconds(packet.duration, packet.time_base) if packet.duration else 1 / frame_rate(stream)
            end_s = max(end_s, to_seconds(ticks, packet.time_base) - reader.start_s + length_s)
    # Frame k is sampled at the middle of its time.
    return max(-int((Fraction(1, 2) - end_s * fps) // 1), 0)


def resample_frames(
    frames: UInt8[np.ndarray, "frames height width 3"], fps: Fraction, target: Fraction
) -> UInt8[np.ndarray, "frames2 height width 3"]:
    """Returns the frame that is shown in the middle of each frame at the new rate; at least one."""
    ratio = Fraction(fps) / target
    count = max(int(len(frames) / ratio), 1)
    middles = [int((i + Fraction(1, 2)) * ratio) for i in range(count)]
    return frames[np.minimum(middles, len(frames) - 1)]


def check_video(reader: MediaReader) -> VideoStream:
    """Returns the picture track of a file. Raises MediaError where it has none of usable size."""
    stream = reader.video
    if stream is None:
        raise MediaError(f"{reader.name} has no picture track; use a video")
    width, height = stream.codec_context.width, stream.codec_context.height
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_SIDE_PX:
        raise MediaError(
            f"the video {reader.name} is {width}x{height} px; a side must have {MIN_SIDE_PX} to {MAX_SIDE_PX} px; "
            "scale it"
        )
    # Decoders that use several threads; PyAV's default is one.
    stream.thread_type = "AUTO"
    return stream


def frame_rate(stream: VideoStream) -> Fraction:
    """Returns frames a second as the header says, DEFAULT_FPS where it does not."""
    return stream.average_rate or stream.guessed_rate or DEFAULT_FPS


def upright_pixels(
    frame: VideoFrame, size: tuple[int, int], matrix: tuple[int, int, int, int] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns RGB scaled to `size` (width and height as stored), turned and mirrored as the display matrix says.

    HDR is tone-mapped. matrix: as `display_matrix` returns it, where it is known.
    """
    is_scaled = size != (frame.width, frame.height)
    has_alpha = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(
        format="rgb48le" if is_hdr(frame) else "rgba" if has_alpha else "rgb24",
        width=size[0],
        height=size[1],
        interpolation=Interpolation.AREA if is_scaled else Interpolation.BICUBIC,
    )
    if is_hdr(frame):
        pixels = tone_mapped(pixels, frame)
    elif has_alpha:
        # Over white, as images are read.
        opacity = pixels[..., 3:].astype(np.float32) / 255
        pixels = (pixels[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)
    # The stored pixel (x, y) is shown at (a x + c y, b x + d y), up to an offset.
    a, b, c, d = matrix or display_matrix(frame)
    if abs(b) > abs(a):
        pixels, mirrors_x, mirrors_y = pixels.swapaxes(0, 1), c < 0, b < 0
    else:
        mirrors_x, mirrors_y = a < 0, d < 0
    return np.ascontiguousarray(pixels[:: -1 if mirrors_y else 1, :: -1 if mirrors_x else 1])


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Returns a, b, c, d of the display matrix in 1 / 65536, the identity where a frame has none.

    PyAV's frames whose side data was asked for are in a circle of references: they stay in memory until Python looks
    for such circles, hundreds of frames later.
    """
    matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return 1 << 16, 0, 0, 1 << 16
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    return a, b, c, d


def square_pixel_size(stream: VideoStream, short_side_px: int | None = None) -> tuple[int, int]:
    """Returns width and height before rotation, at most `short_side_px` on the shorter side."""
    width, height = stream.codec_context.width * (stream.sample_aspect_ratio or 1), stream.codec_context.height
    short = min(width, height)
    scale = Fraction(short_side_px) / short if short_side_px is not None and short > short_side_px else Fraction(1)
    return round(width * scale), round(height * scale)


class _Sampler:
    """A sink that picks the frame shown at the middle of each output frame's time.

    Attributes:
        frames: the output frames so far.
        end_s: when the last frame ends.
        is_done: whether the track goes on behind the last output frame.
    """

    def __init__(
        self, stream: VideoStream, fps: Fraction, stretch: tuple[int, int | None], short_side_px: int | None
    ) -> None:
        self._fps, (self._next, self._stop) = fps, stretch
        self._size = square_pixel_size(stream, short_side_px)
        self._frame_s = 1 / frame_rate(stream)
        self._shown: VideoFrame | None = None
        self._matrix: tuple[int, int, int, int] | None = None
        self.frames: list[UInt8[np.ndarray, "h w 3"]] = []
        self.end_s = Fraction(0)
        self.is_done = False

    def push(self, time_s: Fraction | None, frame: VideoFrame) -> None:
        """Takes the next frame in the order of display."""
        if self.is_done:
            return
        # Without a time stamp a frame follows the one before.
        begin_s = self.end_s if time_s is None else time_s
        end_s = begin_s + (to_seconds(frame.duration, frame.time_base) if frame.duration else self._frame_s)
        # The first frame is also shown before its time: there is nothing else to show.
        self.frames.extend(self._until(begin_s, frame if self._shown is None else self._shown))
        if self._stop is not None and self._next >= self._stop and self._middle() < end_s:
            self.is_done = True
            return
        self._shown, self.end_s = frame, max(self.end_s, end_s)

    def finish(self) -> None:
        """Shows the last frame until its end."""
        if self._shown is not None and not self.is_done:
            self.frames.extend(self._until(self.end_s, self._shown))

    def _middle(self) -> Fraction:
        return (self._next + Fraction(1, 2)) / self._fps

    def _until(self, time_s: Fraction, frame: VideoFrame) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        pixels = None
        while self._middle() < time_s and (self._stop is None or self._next < self._stop):
            if pixels is None:
                self._matrix = self._matrix or display_matrix(frame)
                pixels = upright_pixels(frame, self._size, self._matrix)
            self._next += 1
            yield pixels
