"""Small clips and media files with known content."""

import io
import re
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = Fraction(16)
RATE_HZ = 24_000


def flash_and_click(num_frames: int = 81, at_s: float = 2.0, fps: Fraction = FPS) -> tuple[np.ndarray, np.ndarray]:
    """Frames with one white among dark ones, and sound with one click, at the same time."""
    frames = np.full((num_frames, 32, 48, 3), 20, np.uint8)
    frames[round(at_s * fps)] = 255
    return frames, clicks(float(num_frames / fps), (at_s,))


def moving_bar(num_frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames that all differ: a bright column that moves."""
    frames = np.full((num_frames, height, width, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index % width] = (220, 200, 180)
    return frames


def quadrants(num_frames: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Frames of four grey levels, which tell every rotation and reflection, and a square that moves."""
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[:, : height // 2, : width // 2] = 40
    frames[:, : height // 2, width // 2 :] = 90
    frames[:, height // 2 :, : width // 2] = 140
    frames[:, height // 2 :, width // 2 :] = 200
    for index, frame in enumerate(frames):
        left = 8 * (index % (width // 8))
        frame[height // 2 - 8 : height // 2 + 8, left : left + 8] = 250
    return frames


def tone(seconds: float, rate_hz: int = RATE_HZ, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A sine that begins at 0."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def clicks(seconds: float, at_s: Sequence[float], rate_hz: int = RATE_HZ, level: float = 0.9) -> np.ndarray:
    """Silence with short bursts of a sine."""
    waveform = np.zeros(round(seconds * rate_hz), np.float32)
    burst = tone(0.01, rate_hz, 1000.0, level)
    for time_s in at_s:
        begin = round(time_s * rate_hz)
        waveform[begin : begin + len(burst)] = burst
    return waveform


def add_audio(
    out: av.container.OutputContainer,
    waveform: np.ndarray,
    rate_hz: int = RATE_HZ,
    codec: str = "pcm_s16le",
    layout: str = "mono",
    times: Callable[[float], float] = lambda time_s: time_s,
    **options: str,
) -> Callable[[], None]:
    """Adds a sound track; the function that comes back muxes it. `times` moves time stamps in seconds."""
    stream = out.add_stream(codec, rate=rate_hz, layout=layout, options=options)
    channels = stream.codec_context.channels

    def mux() -> None:
        step = stream.codec_context.frame_size or rate_hz // 50
        packets = []
        for begin in range(0, len(waveform), step):
            part = np.repeat(waveform[begin : begin + step], channels)[None]
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, begin, Fraction(1, rate_hz)
            packets += stream.encode(frame)
        _mux_moved(out, [*packets, *stream.encode(None)], times)

    return mux


def add_video(
    out: av.container.OutputContainer,
    frames: np.ndarray,
    fps: Fraction = FPS,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Callable[[float], float] = lambda time_s: time_s,
    frame_times_s: Sequence[float] | None = None,
    display_matrix: Sequence[int] | None = None,
    **options: str,
) -> Callable[[], None]:
    """Adds a picture track; the function that comes back muxes it."""
    defaults = {"crf": "5"} if codec in ("libx264", "libx265") else {}
    stream = out.add_stream(codec, rate=fps, options={**defaults, **options})
    stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
    if display_matrix is not None:
        stream.set_display_matrix(list(display_matrix))
    if frame_times_s is not None:
        stream.codec_context.time_base = Fraction(1, 90_000)

    def mux() -> None:
        packets = []
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.shape[2] == 3 else "rgba")
            if frame_times_s is None:
                frame.pts, frame.time_base = index, 1 / fps
            else:
                frame.pts, frame.time_base = round(frame_times_s[index] * 90_000), Fraction(1, 90_000)
            packets += stream.encode(frame)
        _mux_moved(out, [*packets, *stream.encode(None)], times)

    return mux


def write_media(path: Path, *tracks: Callable[[av.container.OutputContainer], Callable[[], None]], **arguments) -> None:
    """Writes a file of tracks, each a function of the container."""
    with av.open(str(path), "w", **arguments) as out:
        for mux in [track(out) for track in tracks]:
            mux()


class Pipe(io.RawIOBase):
    """A file that cannot be rewound, as a browser or a streaming program writes to."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.content += data
        return len(data)


def click_times(path: Path) -> list[float]:
    """Returns when clicks begin on the file's own clock, 0 where its first track begins, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = default_track(container.streams.audio)
        video = default_track(container.streams.video)
        loud = []
        for frame in container.decode(stream):
            (packed,) = av.AudioResampler(format="flt").resample(frame)
            samples = packed.to_ndarray().reshape(frame.samples, -1)
            loud += [
                frame.pts * frame.time_base + Fraction(int(index), frame.sample_rate)
                for index in np.flatnonzero(np.abs(samples).max(axis=1) > 0.3)
            ]
        starts = [(track.start_time or 0) * track.time_base for track in (stream, video) if track is not None]
        has_own_clock = container.format.name[:3] in ("mov", "mat") and video is None and min(starts) >= 0
        start_s = 0 if has_own_clock else min(starts)
    times = [float(time_s - start_s) for time_s in loud]
    return [time_s for time_s, before in zip(times, [-1.0, *times], strict=False) if time_s - before > 0.05]


def default_track(streams):
    """Returns the track that a player takes."""
    flagged = [stream for stream in streams if stream.disposition & av.stream.Disposition.default]
    return next(iter([*flagged, *streams]), None)


def _mux_moved(out: av.container.OutputContainer, packets: list[av.Packet], times: Callable[[float], float]) -> None:
    for packet in packets:
        for name in ("pts", "dts"):
            ticks = getattr(packet, name)
            if ticks is not None:
                setattr(packet, name, round(times(float(ticks * packet.time_base)) / packet.time_base))
        out.mux_one(packet)


def set_edits(path: Path, track: int, edits: Sequence[tuple[float, float | None]]) -> None:
    """Gives a track of an MP4 whose index comes last an edit list: (length in s, begin in s; None shows nothing)."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        media_hz = round(1 / container.streams[track].time_base)
    *outer, trak = _atoms(data, b"moov"), _atoms(data, b"trak")[track]
    movie_header = data.index(b"mvhd")
    movie_hz = struct.unpack(">I", data[movie_header + 16 : movie_header + 20])[0]
    entries = b"".join(
        struct.pack(">IiHH", round(length_s * movie_hz), -1 if begin_s is None else round(begin_s * media_hz), 1, 0)
        for length_s, begin_s in edits
    )
    edit_list = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    edit_list = struct.pack(">I4s", 8 + len(edit_list), b"edts") + edit_list
    begin = data.index(b"mdia", trak) - 4
    old = data.find(b"edts", trak, begin)
    start = begin if old < 0 else old - 4
    changed = data[:start] + edit_list + data[begin:]
    for position in (outer[0][0], trak):
        size = struct.unpack(">I", changed[position : position + 4])[0] + len(changed) - len(data)
        changed = changed[:position] + struct.pack(">I", size) + changed[position + 4 :]
    path.write_bytes(changed)


def _atoms(data: bytes, name: bytes) -> list[int]:
    """Returns where the atoms of a name begin, from the index on."""
    index = data.rindex(b"moov") - 4
    return [match.start() - 4 for match in re.finditer(re.escape(name), data) if match.start() - 4 >= index]
