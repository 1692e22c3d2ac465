"""Audio files to samples: any container, placed on the file's clock, mono at one rate or as it is; and plain WAV out.

Letters: channels, samples.
"""

from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import BlockingIOError as NeedsInput
from av.error import EOFError as Drained
from av.filter import Graph
from jaxtyping import Float32, Shaped

from uniavgen.artifacts import atomic_file
from uniavgen.errors import MediaError
from uniavgen.media.packing import encode_wav
from uniavgen.media.reader import MediaFile, MediaReader, open_media
from uniavgen.media.timeline import PlacedBlock, Timeline

MIN_RATE_HZ = 4000
"""Below this there is no speech in a recording. [ours]"""
MAX_S = 24 * 3600
"""Longer files are damaged or are no clips. [ours]"""
# Longer than swresample's default of 32 taps: 100 dB between 44.1 and 24 kHz.
_RESAMPLER: Final = "filter_size=64:phase_shift=12"
_PADDING_S: Final = 0.1
"""Codecs fill their last block; in files without a duration that much beyond a limit is no sound of its own. [ours]"""

Chunk = Shaped[np.ndarray, "channels samples"]


def read_audio(
    file: MediaFile,
    rate_hz: int,
    *,
    max_s: float | None = None,
    start_s: float = 0.0,
    trim: bool = False,
    name: str | None = None,
) -> Float32[np.ndarray, " samples"]:
    """Opens a file, called `name` in messages, and decodes it as `decode_audio` does."""
    with open_media(file, name=name) as reader:
        return decode_audio(reader, rate_hz, max_s=max_s, start_s=start_s, trim=trim)


def decode_audio(
    reader: MediaReader, rate_hz: int, *, max_s: float | None = None, start_s: float = 0.0, trim: bool = False
) -> Float32[np.ndarray, " samples"]:
    """Returns the audio of a file, mixed to mono, at `rate_hz`, from `start_s` on.

    Sample 0 belongs to the time at which the file begins to play; where its sound begins later or pauses there are
    zeros. With `max_s` no more than the beginning is decoded: longer audio is cut with `trim`, else a MediaError.
    Damaged packets and a missing end are left out and noted in the log. Raises MediaError where the file has no sound
    track that can be decoded, or no sound in that stretch.
    """
    stream = check_audio(reader)
    stop_s = None if max_s is None else start_s + max_s
    collector = AudioCollector(reader, stream, rate_hz, (start_s, stop_s))
    reader.decode((stream, collector), from_s=Fraction(start_s))
    if max_s is not None and not trim and collector.is_longer_than(start_s + max_s):
        raise reader.too_long(stream, start_s, max_s)
    if not collector.is_done:
        reader.check_complete(stream, collector.end_s)
    waveform = collector.samples()[0]
    if len(waveform) == 0:
        raise MediaError(f"{reader.name} holds no sound after {start_s:.2f} s; use a longer one")
    return waveform


def write_wav(path: str | Path, waveform: Float32[np.ndarray, " samples"], rate_hz: int) -> None:
    """Writes 16 bit mono WAV whole or not at all; samples beyond [-1, 1) are clipped."""
    with atomic_file(Path(path)) as partial:
        partial.write_bytes(encode_wav(waveform, rate_hz))


def check_audio(reader: MediaReader) -> AudioStream:
    """Returns the sound track of a file. Raises MediaError where it has none that can hold speech."""
    stream = reader.audio
    if stream is None:
        raise MediaError(f"{reader.name} has no sound track; use a file with sound")
    rate_hz = stream.codec_context.sample_rate
    if rate_hz < MIN_RATE_HZ:
        raise MediaError(f"{reader.name} has {rate_hz} samples a second; speech needs {MIN_RATE_HZ} or more")
    return stream


class AudioCollector:
    """A sink that turns the blocks of a sound track into one stretch of samples, with zeros where there is no sound.

    Attributes:
        rate_hz: samples a second that it returns.
        begin_s: when the sound begins.
        end_s: when it ends, as far as it has been decoded.
        has_gaps: whether it pauses.
        is_done: whether the end of the stretch has been passed.
    """

    def __init__(
        self,
        reader: MediaReader,
        stream: AudioStream,
        rate_hz: int,
        stretch_s: tuple[float, float | None],
        sample_format: str | None = None,
    ) -> None:
        """Collects what plays in `stretch_s`.

        sample_format: samples of this kind (s16, s32, flt) with all channels; None mixes to mono flt.
        """
        self._name, self.rate_hz, self._sample_format = reader.name, rate_hz, sample_format
        self._first, self._stop_s = round(stretch_s[0] * rate_hz), stretch_s[1]
        self._layout = stream.codec_context.layout.name
        self._declared_end_s = reader.declared_end_s(stream)
        self._timeline = Timeline()
        self._chunks: list[tuple[int, Chunk]] = []
        self._converter: _Converter | None = None
        self._next = 0
        self._block_s = 0.0
        self.begin_s: float | None = None
        self.end_s = 0.0
        self.has_gaps = self.is_done = False

    def push(self, time_s: Fraction | None, frame: AudioFrame) -> None:
        """Takes the next block of the track."""
        for block in self._timeline.push(time_s, frame):
            self._add(block)
        self.is_done = self._stop_s is not None and self.end_s > self._stop_s + 2 * _PADDING_S

    def finish(self) -> None:
        """Ends the track where the header says, if that is within its last block."""
        if not self.is_done:
            for block in self._timeline.finish():
                self._add(block)
        self._flush()
        if self._declared_end_s is not None and 0 < self.end_s - self._declared_end_s <= self._block_s:
            self.end_s = self.end_s if self.is_done else self._declared_end_s

    def is_longer_than(self, limit_s: float) -> bool:
        """Returns whether there is sound behind `limit_s`."""
        return self.end_s - limit_s > (_PADDING_S if self._declared_end_s is None else 1e-9)

    @property
    def num_ready(self) -> int:
        """Returns how many samples of the stretch can be taken, because later blocks lie behind them."""
        return self._next - self._first

    def take(self, num_samples: int) -> Chunk:
        """Returns the next samples of the stretch, of which `num_ready` tells how many there are, and forgets them."""
        samples = self._joined(self._first + num_samples)
        self._first += num_samples
        self._chunks = [(begin, chunk) for begin, chunk in self._chunks if begin + chunk.shape[1] > self._first]
        return samples

    def samples(self, stop_s: float | None = None) -> Chunk:
        """Returns the stretch up to the end of the sound, at most to `stop_s`."""
        last = round(self.end_s * self.rate_hz)
        for limit_s in (self._stop_s, stop_s):
            last = last if limit_s is None else min(last, round(limit_s * self.rate_hz))
        return self._joined(last)

    def _joined(self, last: int) -> Chunk:
        """Returns the samples of the stretch before sample `last` of the file."""
        if last > MAX_S * self.rate_hz:
            raise MediaError(
                f"the sound of {self._name} lasts {self.end_s / 3600:.0f} hours by its time stamps; cut it"
            )
        num_channels, kind = (len(self._chunks[0][1]), self._chunks[0][1].dtype) if self._chunks else (1, np.float32)
        samples = np.zeros((num_channels, max(last - self._first, 0)), kind)
        for begin, chunk in self._chunks:
            skipped = max(self._first - begin, 0)
            offset = begin + skipped - self._first
            part = chunk[:, skipped : skipped + max(samples.shape[1] - offset, 0)]
            samples[:, offset : offset + part.shape[1]] = part
        return samples

    def _add(self, block: PlacedBlock) -> None:
        frame = block.frame
        if not (block.follows and self._converter is not None and self._converter.takes(frame)):
            self._flush()
            self._next = round(block.begin_s * self.rate_hz)
            self._converter = _Converter(frame, self.rate_hz, self._sample_format, self._layout)
        self.has_gaps |= self.begin_s is not None and not block.follows
        self.begin_s = float(block.begin_s) if self.begin_s is None else self.begin_s
        self._block_s = frame.samples / frame.sample_rate
        self.end_s = max(self.end_s, float(block.begin_s) + self._block_s)
        self._store(self._converter.push(frame))

    def _flush(self) -> None:
        if self._converter is not None:
            self._store(self._converter.push(None))
            self._converter = None

    def _store(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            # Sound before the requested stretch is not stored.
            if self._next + chunk.shape[1] > self._first:
                self._chunks.append((self._next, chunk))
            self._next += chunk.shape[1]


class _Converter:
    """Frames of one format in, chunks of another at one rate out.

    The graph's samples are packed: PyAV reads beyond the planes of planar frames with eight channels or more.
    """

    def __init__(self, frame: AudioFrame, rate_hz: int, sample_format: str | None, layout: str) -> None:
        self._input, self._is_mono = _format_of(frame), sample_format is None
        self._graph = Graph()
        nodes = [
            self._graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=Fraction(1, frame.sample_rate),
            ),
            self._graph.add("aformat", f"sample_fmts={sample_format or 'flt'}"),
        ]
        if sample_format is not None and frame.layout.name != layout:
            nodes.append(self._graph.add("aformat", f"channel_layouts={layout}"))
        if frame.sample_rate != rate_hz:
            nodes.append(self._graph.add("aresample", f"{rate_hz}:{_RESAMPLER}"))
        self._graph.link_nodes(*nodes, self._graph.add("abuffersink")).configure()

    def takes(self, frame: AudioFrame) -> bool:
        """Returns whether a frame has this converter's format."""
        return _format_of(frame) == self._input

    def push(self, frame: AudioFrame | None) -> list[Chunk]:
        """Returns what is complete after a frame; None ends the sound."""
        if frame is not None:
            # The collector lays the gaps; the resampler must not stretch over them.
            frame.pts = None
        self._graph.push(frame)
        chunks = []
        while True:
            try:
                converted = self._graph.pull()
            except (NeedsInput, Drained):
                return chunks
            assert isinstance(converted, AudioFrame)
            samples = converted.to_ndarray().reshape(converted.samples, -1).T
            # The mean of the channels; FFmpeg would mix stereo 3 dB louder and beyond full scale.
            chunks.append(samples.mean(axis=0, keepdims=True) if self._is_mono else samples)


def _format_of(frame: AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
