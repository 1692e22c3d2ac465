"""Clips to files: H.264 and AAC, a user's own track beside a new one, and settings in the metadata.

The settings stand as JSON in the comment tag, which every container here carries. Files begin with their index, so
that browsers play them while they load.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from jaxtyping import Float32, UInt8

from uniavgen.artifacts import atomic_file
from uniavgen.errors import MediaError, OutputError
from uniavgen.media.audio import AudioCollector, Chunk, check_audio
from uniavgen.media.packing import REPEATABLE
from uniavgen.media.probe import SETTINGS_KEY, probe
from uniavgen.media.reader import MediaFile, MediaReader, error_text, open_media, to_seconds
from uniavgen.media.stream_copy import (
    FORMATS,
    AudioPlan,
    AudioTransfer,
    VideoTransfer,
    add_copied_stream,
    copied_packets,
    output_options,
    plan_audio,
    plan_video,
)
from uniavgen.media.video import check_video, frame_rate, square_pixel_size, upright_pixels

SUFFIXES = tuple(FORMATS)
CRF = 17
"""x264's constant quality; visually without loss. [ours]"""
AUDIO_BITS_PER_SECOND = 128_000
"""AAC for one channel. [ours]"""
OnWritten = Callable[[Path], None]
"""Changes a complete file before it gets its name, such as by signing it."""
_VIDEO_CLOCK_HZ: Final = 90_000
"""Ticks a second for pictures of variable rate, as in MPEG."""


def write_clip(
    path: str | Path,
    frames: UInt8[np.ndarray, "frames height width 3"],
    fps: Fraction,
    waveform: Float32[np.ndarray, " samples"],
    rate_hz: int,
    settings: Mapping[str, Any],
    on_written: OnWritten | None = None,
) -> None:
    """Writes frames and mono audio as H.264 (yuv420p) and AAC, whole or not at all.

    `settings` are JSON values for `read_metadata`. Raises MediaError where a side is odd, OutputError where the file
    cannot be written.
    """
    with _output(Path(path), settings, on_written) as out:
        video = _VideoTrack(out, frames.shape[2], frames.shape[1], fps, 1 / fps)
        audio = _SpeechTrack(out, rate_hz)
        out.mux_all(video.packets(frames), audio.packets(waveform))


def write_clip_keeping_video(
    path: str | Path,
    video: str | Path,
    waveform: Float32[np.ndarray, " samples"],
    rate_hz: int,
    settings: Mapping[str, Any],
    stop_s: float | None = None,
    on_written: OnWritten | None = None,
) -> VideoTransfer:
    """Writes the picture track of the file `video` with new mono audio, and returns how the pictures were stored.

    Sample 0 plays where `video` begins to play. `stop_s` ends the pictures there; a few packets more stay where later
    pictures are stored first. Raises MediaError as `plan_video` does, which can be called before there is a waveform.
    """
    transfer = plan_video(video, Path(path).suffix, stop_s)
    with open_media(video, quiet=True) as source, _output(Path(path), settings, on_written) as out:
        if transfer is VideoTransfer.COPIED:
            stream = check_video(source)
            packets = copied_packets(source, stream, add_copied_stream(out.container, stream), stop_s)
        else:
            packets = iter(_Transcoder(source, out, stop_s).run())
        audio = _SpeechTrack(out, rate_hz)
        out.mux_all(packets, audio.packets(waveform))
    return transfer


def write_clip_keeping_audio(
    path: str | Path,
    frames: UInt8[np.ndarray, "frames height width 3"],
    fps: Fraction,
    audio: str | Path,
    settings: Mapping[str, Any],
    stop_s: float | None = None,
    on_written: OnWritten | None = None,
) -> AudioTransfer:
    """Writes new frames with the sound track of the file `audio`, and returns how the sound was stored.

    Frame 0 is shown where `audio` begins to play. `stop_s` ends the sound there; copied, to a packet. `settings` are
    stored with a key `kept_audio` added. Raises MediaError as `plan_audio` does.
    """
    plan = plan_audio(audio, Path(path).suffix, stop_s)
    settings = {**settings, "kept_audio": str(plan.transfer)}
    with open_media(audio, quiet=True) as source, _output(Path(path), settings, on_written) as out:
        video = _VideoTrack(out, frames.shape[2], frames.shape[1], fps, 1 / fps)
        if plan.transfer is AudioTransfer.COPIED:
            stream = check_audio(source)
            packets = copied_packets(source, stream, add_copied_stream(out.container, stream), stop_s)
        else:
            packets = _encoded_samples(source, out, plan, stop_s)
        out.mux_all(video.packets(frames), packets)
    return plan.transfer


def read_metadata(path: MediaFile) -> Mapping[str, Any] | None:
    """Returns the settings stored in a file by this module, or None for a file from elsewhere."""
    return probe(path).settings


class _Output:
    """An open container and how to fill it in the order of time."""

    def __init__(self, container: OutputContainer) -> None:
        self.container = container
        self.sizes: dict[int, list[int]] = {}
        """Bytes of the packets of each stream."""

    def mux_all(self, *tracks: Iterator[Packet]) -> None:
        """Interleaves tracks by decoding time; all streams must have been added."""
        waiting = {index: packet for index, track in enumerate(tracks) if (packet := next(track, None)) is not None}
        while waiting:
            first = min(waiting, key=lambda index: to_seconds(waiting[index].dts, waiting[index].time_base))
            # FLAC ends with a packet that carries only a new header.
            if waiting[first].size:
                self.sizes.setdefault(waiting[first].stream_index, []).append(waiting[first].size)
            self.container.mux_one(waiting[first])
            following = next(tracks[first], None)
            if following is None:
                del waiting[first]
            else:
                waiting[first] = following


@contextmanager
def _output(path: Path, settings: Mapping[str, Any], on_written: OnWritten | None) -> Iterator[_Output]:
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"the output {path} must end in {' or '.join(SUFFIXES)}")
    with atomic_file(path) as partial:
        try:
            with av.open(
                str(partial.absolute()),
                "w",
                format=FORMATS[path.suffix.lower()],
                options=output_options(path.suffix),
            ) as container:
                container.metadata["comment"] = json.dumps({SETTINGS_KEY: dict(settings)})
                output = _Output(container)
                yield output
            _check_whole(partial, output.sizes)
            if on_written is not None:
                on_written(partial)
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise MediaError(f"{path} could not be written: {error_text(error)}") from error


def _check_whole(path: Path, sizes: Mapping[int, list[int]]) -> None:
    """Raises OSError where a file lacks packets that were muxed, since FFmpeg may swallow a late write error.

    Packets are counted in bytes too, because those of PCM are joined.
    """
    arrived_sizes: dict[int, list[int]] = {index: [] for index in sizes}
    with av.open(str(path.absolute())) as written:
        for packet in written.demux():
            if packet.size:
                arrived_sizes[packet.stream_index].append(packet.size)
    for index, written_sizes in sizes.items():
        if len(arrived_sizes[index]) < len(written_sizes) and sum(arrived_sizes[index]) < sum(written_sizes):
            raise OSError(f"{len(written_sizes)} packets were written, {len(arrived_sizes[index])} arrived")


class _VideoTrack:
    """H.264 as every player takes it."""

    def __init__(self, out: _Output, width: int, height: int, fps: Fraction, tick_s: Fraction) -> None:
        if width % 2 or height % 2:
            raise MediaError(f"frames of {width}x{height} px cannot be stored as H.264; both sides must be even")
        self._stream = out.container.add_stream("libx264", rate=fps, options={"crf": str(CRF), **REPEATABLE})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._tick = tick_s
        self._stream.time_base = self._tick
        context = self._stream.codec_context
        # Of the encoder too, or it moves pictures of variable rate to multiples of 1 / fps.
        context.time_base = self._tick
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def encode(self, ticks: int, pixels: UInt8[np.ndarray, "height width 3"]) -> list[Packet]:
        """Returns the packets that are complete after a picture with its time in ticks."""
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=int(ColorRange.MPEG))
        frame.pts, frame.time_base = ticks, self._tick
        return self._stream.encode(frame)

    def flush(self) -> list[Packet]:
        """Returns the packets that are left."""
        return self._stream.encode(None)

    def packets(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> Iterator[Packet]:
        """Yields the packets of frames of constant rate."""
        for index, pixels in enumerate(frames):
            yield from self.encode(index, pixels)
        yield from self.flush()


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


class _Transcoder:
    """A sink that encodes the pictures of a file, upright with square pixels and even sides, at their own times."""

    def __init__(self, source: MediaReader, out: _Output, stop_s: float | None) -> None:
        self._source, self._stream = source, check_video(source)
        self._out, self._stop_s = out, stop_s
        self._track: _VideoTrack | None = None
        self._last_ticks = -1
        self._packets: list[Packet] = []
        self.is_done = False

    def run(self) -> list[Packet]:
        """Decodes the file and returns the packets."""
        self._source.decode((self._stream, self))
        return self._packets

    def push(self, time_s: Fraction | None, frame: VideoFrame) -> None:
        """Takes the next picture."""
        ticks = self._last_ticks + 1 if time_s is None else round(time_s * _VIDEO_CLOCK_HZ)
        self.is_done = self._stop_s is not None and ticks >= self._stop_s * _VIDEO_CLOCK_HZ
        if self.is_done or ticks <= self._last_ticks:
            return
        pixels = upright_pixels(frame, square_pixel_size(self._stream))
        height, width = (side & ~1 for side in pixels.shape[:2])
        if self._track is None:
            self._track = _VideoTrack(self._out, width, height, frame_rate(self._stream), Fraction(1, _VIDEO_CLOCK_HZ))
        self._last_ticks = ticks
        self._packets += self._track.encode(ticks, pixels[:height, :width])

    def finish(self) -> None:
        """Ends the track."""
        if self._track is None:
            raise MediaError(f"{self._source.name} shows no picture that can be decoded; use another video")
        self._packets += self._track.flush()


def _encoded_samples(source: MediaReader, out: _Output, plan: AudioPlan, stop_s: float | None) -> Iterator[Packet]:
    """Adds a stream for all channels of a sound track at its own rate; silence stands where the track has none."""
    stream = check_audio(source)
    rate_hz, layout = stream.codec_context.sample_rate, stream.codec_context.layout.name
    track = out.container.add_stream(plan.encoder, rate=rate_hz, layout=layout, format=plan.sample_format)
    collector = AudioCollector(source, stream, rate_hz, (0.0, stop_s), plan.sample_format)
    source.decode((stream, collector))
    samples: Chunk = collector.samples()

    def packets() -> Iterator[Packet]:
        for begin in range(0, samples.shape[1], rate_hz):
            interleaved = np.ascontiguousarray(samples[:, begin : begin + rate_hz].T).reshape(1, -1)
            frame = AudioFrame.from_ndarray(interleaved, format=plan.sample_format, layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, begin, Fraction(1, rate_hz)
            yield from track.encode(frame)
        yield from track.encode(None)

    return packets()
