"""Clips to files: H.264 and AAC, a user's own track copied packet by packet beside a new one, and settings kept inside.

The settings stand as JSON in the comment tag, which every container here carries. Files begin with their index, so
that browsers play them while they load.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import Float32, UInt8

from uniavgen.artifacts import atomic_file
from uniavgen.errors import MediaError, OutputError
from uniavgen.media.probe import (
    codec_name,
    find_audio_stream,
    find_video_stream,
    open_media,
    probe,
    start_time_s,
    to_seconds,
)

SUFFIXES = (".mp4", ".mov", ".mkv")
CRF = 17
"""x264's constant quality; visually without loss. [ours]"""
REPEATABLE = {"x264-params": "mbtree=0"}
"""Options with which x264 makes the same file of the same frames. Its macroblock tree reads memory that nobody wrote at
many sizes: 32x32, 160x96 and 208x112 differ from run to run, 64, 96 and 128 px square do not. [measured]"""
AUDIO_BITS_PER_SECOND = 128_000
"""AAC for one channel. [ours]"""
_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Sound codecs that players take inside an MP4. It may hold PCM too, but browsers stay silent.
_PLAYABLE = {"aac", "mp3", "alac", "flac", "opus", "ac3", "eac3"}
# Exact on the clock of 16, 24, 25 and 30 fps and of 24 and 48 kHz; the default of 1000 cuts sound by up to 1 ms.
_MOVIE_CLOCK = "48000"
_SETTINGS_KEY = "uniavgen"


class AudioTransfer(StrEnum):
    """How a user's sound came into a new file."""

    COPIED = "copied"
    """Packet by packet, bit for bit."""
    LOSSLESS = "lossless"
    """As FLAC with the same samples, because players do not take the codec inside this container."""
    ROUNDED = "rounded to 24 bits"
    """As FLAC; the original has floating point or 32 bit samples, and what is lost is below -140 dB."""


def write_clip(
    path: str | Path,
    frames: UInt8[np.ndarray, "frames height width 3"],
    fps: Fraction,
    waveform: Float32[np.ndarray, " samples"],
    rate_hz: int,
    settings: Mapping[str, Any],
) -> None:
    """Write frames and mono sound as H.264 (yuv420p) and AAC, whole or not at all.

    `settings` are JSON values for `read_metadata`. MediaError where it cannot be written or a side is odd.
    """
    with _output(Path(path), settings) as out:
        picture = _VideoTrack(out, frames.shape[2], frames.shape[1], fps)
        sound = _SpeechTrack(out, rate_hz)
        out.mux_all(picture.packets(frames), sound.packets(waveform))


def write_clip_keeping_video(
    path: str | Path,
    video: str | Path,
    waveform: Float32[np.ndarray, " samples"],
    rate_hz: int,
    settings: Mapping[str, Any],
    stop_s: float | None = None,
) -> None:
    """Write the picture track of the file `video`, packets untouched, with new mono sound.

    `stop_s` ends the picture there; a few frames more stay where later frames are stored first. MediaError where the
    container of `path` cannot hold the codec.
    """
    with open_media(video) as source, _output(Path(path), settings) as out:
        stream = find_video_stream(source)
        if stream is None:
            raise MediaError(f"{video} has no picture track; use a video")
        codec = codec_name(stream)
        if not out.holds(codec):
            raise MediaError(
                f"the picture track of {video} is stored as {codec}, which {Path(path).suffix} cannot hold unchanged; "
                "choose an output that ends in .mkv"
            )
        copy = out.container.add_stream_from_template(stream)
        sound = _SpeechTrack(out, rate_hz)
        begin = start_time_s(source)
        out.mux_all(_copied(source, stream, copy, begin, stop_s), sound.packets(waveform))


def write_clip_keeping_audio(
    path: str | Path,
    frames: UInt8[np.ndarray, "frames height width 3"],
    fps: Fraction,
    audio: str | Path,
    settings: Mapping[str, Any],
    stop_s: float | None = None,
) -> AudioTransfer:
    """Write new frames with the sound track of the file `audio` as it is, and say how it was kept.

    `stop_s` ends the sound there, to a packet. `settings` are stored with a key `kept_audio` added.
    """
    with open_media(audio) as source:
        stream = find_audio_stream(source)
        if stream is None:
            raise MediaError(f"{audio} has no sound track; use a file with sound")
        kept = AudioTransfer.COPIED
        if codec_name(stream) not in _PLAYABLE and Path(path).suffix.lower() != ".mkv":
            kept = (
                AudioTransfer.LOSSLESS if _is_narrow(stream) or "s24" in codec_name(stream) else AudioTransfer.ROUNDED
            )
        begin = (
            start_time_s(source)
            if find_video_stream(source) is not None
            else to_seconds(stream.start_time, stream.time_base)
        )
        with _output(Path(path), {**settings, "kept_audio": str(kept)}) as out:
            picture = _VideoTrack(out, frames.shape[2], frames.shape[1], fps)
            if kept is AudioTransfer.COPIED:
                copy = out.container.add_stream_from_template(stream)
                packets = _copied(source, stream, copy, Fraction(begin), stop_s)
            else:
                packets = _LosslessTrack(out, stream).packets(source, stop_s)
            out.mux_all(picture.packets(frames), packets)
    return kept


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """The settings stored in a file by this module, or None in a file from elsewhere."""
    comment = probe(path).comment
    try:
        stored = json.loads(comment or "")
    except ValueError:
        return None
    settings = stored.get(_SETTINGS_KEY) if isinstance(stored, dict) else None
    return settings if isinstance(settings, dict) else None


class _Output:
    """An open container and how to fill it in the order of time."""

    def __init__(self, container: OutputContainer) -> None:
        self.container = container
        self.muxed = 0

    def holds(self, codec: str) -> bool:
        return codec in self.container.supported_codecs

    def mux_all(self, *tracks: Iterator[Packet]) -> None:
        """Interleave tracks by decoding time; all streams must have been added."""
        waiting = {index: packet for index, track in enumerate(tracks) if (packet := next(track, None)) is not None}
        while waiting:
            first = min(waiting, key=lambda index: to_seconds(waiting[index].dts, waiting[index].time_base))
            # FLAC ends with a packet that carries only a new header.
            self.muxed += waiting[first].size > 0
            self.container.mux_one(waiting[first])
            following = next(tracks[first], None)
            if following is None:
                del waiting[first]
            else:
                waiting[first] = following


@contextmanager
def _output(path: Path, settings: Mapping[str, Any]) -> Iterator[_Output]:
    format_name = _FORMATS.get(path.suffix.lower())
    if format_name is None:
        raise OutputError(f"the output {path} must end in {' or '.join(SUFFIXES)}")
    options = {} if format_name == "matroska" else {"movflags": "+faststart", "movie_timescale": _MOVIE_CLOCK}
    with atomic_file(path) as partial:
        try:
            with av.open(str(partial.absolute()), "w", format=format_name, options=options) as container:
                container.metadata["comment"] = json.dumps({_SETTINGS_KEY: dict(settings)})
                output = _Output(container)
                yield output
            _check_whole(partial, output.muxed)
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise MediaError(f"{path} could not be written: {(error.strerror or str(error)).lower()}") from None


def _check_whole(path: Path, num_packets: int) -> None:
    """ffmpeg may swallow a late write error; what was muxed must be there."""
    with av.open(str(path.absolute())) as written:
        found = sum(packet.size > 0 for packet in written.demux())
    if found < num_packets:
        raise OSError(f"{num_packets} packets were written, {found} arrived")


class _VideoTrack:
    """H.264 as every player takes it."""

    def __init__(self, out: _Output, width: int, height: int, fps: Fraction) -> None:
        if width % 2 or height % 2:
            raise MediaError(f"frames of {width}x{height} px cannot be stored as H.264; both sides must be even")
        self._stream = out.container.add_stream("libx264", rate=fps, options={"crf": str(CRF), **REPEATABLE})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._tick = 1 / fps
        self._stream.time_base = self._tick
        context = self._stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def packets(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> Iterator[Packet]:
        for index, pixels in enumerate(frames):
            rgb = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = rgb.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=int(ColorRange.MPEG)
            )
            frame.pts, frame.time_base = index, self._tick
            yield from self._stream.encode(frame)
        yield from self._stream.encode(None)


class _SpeechTrack:
    """AAC, one channel."""

    def __init__(self, out: _Output, rate_hz: int) -> None:
        self._stream = out.container.add_stream("aac", rate=rate_hz, layout="mono", format="fltp")
        self._stream.bit_rate = AUDIO_BITS_PER_SECOND
        self._rate_hz = rate_hz

    def packets(self, waveform: Float32[np.ndarray, " samples"]) -> Iterator[Packet]:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(waveform[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate_hz, 0, Fraction(1, self._rate_hz)
        yield from self._stream.encode(frame)
        yield from self._stream.encode(None)


class _LosslessTrack:
    """FLAC with all channels and the rate of the original."""

    def __init__(self, out: _Output, source: AudioStream) -> None:
        context = source.codec_context
        self._source, self._rate_hz = source, context.sample_rate
        self._format, self._layout = "s16" if _is_narrow(source) else "s32", context.layout.name
        self._stream = out.container.add_stream("flac", rate=self._rate_hz, layout=self._layout, format=self._format)

    def packets(self, source: InputContainer, stop_s: float | None) -> Iterator[Packet]:
        resampler = AudioResampler(format=self._format, layout=self._layout)
        left = None if stop_s is None else round(stop_s * self._rate_hz)
        position = 0
        for decoded in source.decode(self._source):
            for converted in resampler.resample(decoded):
                frame = converted if left is None else self._first(converted, left - position)
                if frame is None:
                    yield from self._stream.encode(None)
                    return
                frame.pts, frame.time_base = position, Fraction(1, self._rate_hz)
                position += frame.samples
                yield from self._stream.encode(frame)
        yield from self._stream.encode(None)

    def _first(self, frame: AudioFrame, count: int) -> AudioFrame | None:
        """The frame's leading samples, at most `count`; None for none."""
        if frame.samples <= count:
            return frame
        if count <= 0:
            return None
        samples: Any = np.ascontiguousarray(frame.to_ndarray()[:, : count * frame.layout.nb_channels])
        cut = AudioFrame.from_ndarray(samples, format=self._format, layout=self._layout)
        cut.sample_rate = self._rate_hz
        return cut


def _is_narrow(stream: AudioStream) -> bool:
    return stream.codec_context.format.name.rstrip("p") in ("u8", "s16")


def _copied(
    source: InputContainer, stream: Stream, copy: Stream, begin_s: Fraction, stop_s: float | None
) -> Iterator[Packet]:
    """Packets of `stream` for `copy`, data untouched, on a clock that begins at 0."""
    packets = []
    for packet in source.demux(stream):
        if packet.size == 0:
            continue
        if packet.pts is None:
            raise MediaError(f"{source.name} has packets without time stamps; store it as MP4 first")
        packets.append(packet)
        # A codec reorders packets by less than a second.
        if stop_s is not None and packet.pts * packet.time_base - begin_s >= stop_s + 1:
            break
    shift = round(begin_s / stream.time_base) if stream.time_base else 0
    for packet, dts in zip(packets, _decoding_times(packets), strict=True):
        packet.pts, packet.dts = packet.pts - shift, dts - shift
        if stop_s is not None and packet.dts * packet.time_base >= stop_s:
            return
        packet.stream = copy
        yield packet


def _decoding_times(packets: list[Packet]) -> list[int]:
    """Stored decoding times, or for a container without them (Matroska) the latest ones that are in order."""
    stored = [packet.dts for packet in packets if packet.dts is not None]
    if len(stored) == len(packets):
        return stored
    shown = [packet.pts or 0 for packet in packets]
    delay = max((time - pts for time, pts in zip(sorted(shown), shown, strict=True)), default=0)
    return [time - delay for time in sorted(shown)]
