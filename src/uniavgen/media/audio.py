"""Sound: any container to mono float32 at one rate, and plain WAV out."""

import struct
import wave
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import BlockingIOError as NeedsInput
from av.error import EOFError as Drained
from av.filter import Graph
from jaxtyping import Float32

from uniavgen.artifacts import atomic_file
from uniavgen.errors import MediaError
from uniavgen.media.probe import (
    check_complete,
    check_length,
    declared_duration_s,
    find_audio_stream,
    open_media,
    start_time_s,
    to_seconds,
)

MIN_RATE_HZ = 4000
"""Below this there is no speech in a recording. [ours]"""
# Longer than swresample's default of 32 taps: 100 dB between 44.1 and 24 kHz.
_RESAMPLER = "filter_size=64:phase_shift=12"


def read_audio(
    path: str | Path, rate_hz: int, *, max_s: float | None = None, start_s: float = 0.0, trim: bool = False
) -> Float32[np.ndarray, " samples"]:
    """Sound of a file, mixed to mono, at `rate_hz`, from `start_s` on.

    Longer than `max_s` is a MediaError, or with `trim` cut there; more than that is never decoded. In a file with a
    picture track, sample 0 belongs to the time at which the file begins to play. MediaError also where the file is
    missing, damaged, cut off, or silent by having no sound track.
    """
    with open_media(path) as container:
        stream = find_audio_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no sound track; use a file with sound")
        if stream.codec_context.sample_rate < MIN_RATE_HZ:
            raise MediaError(
                f"{path} has {stream.codec_context.sample_rate} samples a second; speech needs {MIN_RATE_HZ} or more"
            )
        _check_riff(path)
        promised_s = declared_duration_s(container, stream)
        if max_s is not None and promised_s is not None and not trim:
            check_length(path, "sound", promised_s - start_s, max_s)
        stop_s = None if max_s is None else start_s + max_s
        waveform, end_s = _decode(container, stream, rate_hz, start_s, stop_s)
        if end_s is not None:
            check_complete(path, "sound", end_s, promised_s)
        elif max_s is not None and not trim:
            raise MediaError(f"the sound of {path} is longer than {max_s:.2f} s; cut it, or pass --trim")
    if len(waveform) == 0:
        raise MediaError(f"{path} holds no sound after {start_s:.2f} s; use a longer one")
    return waveform


def write_wav(path: str | Path, waveform: Float32[np.ndarray, " samples"], rate_hz: int) -> None:
    """Write 16 bit mono WAV whole or not at all; samples beyond [-1, 1) are clipped."""
    samples = np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2")
    with atomic_file(Path(path)) as partial, partial.open("wb") as file, wave.open(file) as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(samples.tobytes())


def _decode(
    container: InputContainer, stream: AudioStream, rate_hz: int, start_s: float, stop_s: float | None
) -> tuple[Float32[np.ndarray, " samples"], float | None]:
    """Samples from start_s to stop_s, and where the track ends; None if decoding stopped before its end."""
    origin = start_time_s(container) if container.streams.video else to_seconds(stream.start_time, stream.time_base)
    first = round(start_s * rate_hz)
    last = None if stop_s is None else round(stop_s * rate_hz)
    mixer = _Mixer(stream, rate_hz)
    chunks: list[np.ndarray] = []
    begin: int | None = None
    count, ended = 0, True
    for frame in container.decode(stream):
        if begin is None:
            begin = 0 if frame.time is None else round((to_seconds(frame.pts, frame.time_base) - origin) * rate_hz)
        chunks.extend(mixer.push(frame))
        count = begin + sum(len(chunk) for chunk in chunks)
        if last is not None and count > last + rate_hz:
            ended = False
            break
    chunks.extend(mixer.push(None))
    track = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    begin = begin or 0
    track = track[-begin:] if begin < 0 else np.pad(track, (begin, 0))
    if stream.duration is not None and ended:
        # AAC comes in blocks; the header knows where the sound ends in the last one.
        end = round((to_seconds((stream.start_time or 0) + stream.duration, stream.time_base) - origin) * rate_hz)
        track = track[: max(end, 0)]
    end_s = len(track) / rate_hz if ended else None
    return np.ascontiguousarray(track[first:last], dtype=np.float32), end_s


class _Mixer:
    """Frames of any format in, mono float32 chunks at one rate out."""

    def __init__(self, stream: AudioStream, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._native_hz = stream.codec_context.sample_rate
        self._graph: Graph | None = None

    def push(self, frame: AudioFrame | None) -> list[Float32[np.ndarray, " samples"]]:
        if self._graph is None:
            if frame is None:
                return []
            self._graph = self._build(frame)
        self._graph.push(frame)
        chunks = []
        while True:
            try:
                mixed = self._graph.pull()
            except (NeedsInput, Drained):
                return chunks
            # The mean of the channels; ffmpeg would mix stereo 3 dB louder and beyond full scale.
            chunks.append(mixed.to_ndarray().mean(axis=0))

    def _build(self, frame: AudioFrame) -> Graph:
        graph = Graph()
        nodes = [
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=frame.time_base,
            ),
            graph.add("aformat", "sample_fmts=fltp"),
        ]
        if self._native_hz != self._rate_hz:
            nodes.append(graph.add("aresample", f"{self._rate_hz}:{_RESAMPLER}"))
        graph.link_nodes(*nodes, graph.add("abuffersink")).configure()
        return graph


def _check_riff(path: str | Path) -> None:
    """MediaError where a WAV holds less sound than it says; ffmpeg plays what there is."""
    with Path(path).open("rb") as file:
        size = Path(path).stat().st_size
        if file.read(4) != b"RIFF":
            return
        position = 12
        while position + 8 <= size:
            file.seek(position)
            name, length = struct.unpack("<4sI", file.read(8))
            # Programs that write to a pipe leave the length at 0 or its largest value.
            if name == b"data" and length not in (0, 0x7FFFFFFF, 0xFFFFFFFF) and position + 8 + length > size:
                raise MediaError(
                    f"{path} is incomplete: its header promises {length} bytes of sound, "
                    f"{size - position - 8} are there; copy or download it again"
                )
            position += 8 + length + length % 2
