"""Media files opened for reading: which tracks are used, on which clock they play, and decoding that survives damage.

Time 0 is where a file begins to play. Time stamps are the container's, after its edit lists and codec delays, so that
audio that begins late or pauses and frames of variable rate stay where they belong.
"""

import io
import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from uniavgen.artifacts import os_error_text
from uniavgen.errors import MediaError

MediaFile = str | Path | bytes
"""A file by its name, or its content."""
Track = VideoStream | AudioStream

# Demuxers that take a picture, a text or any bytes for a film.
_NO_FILM: Final = frozenset(
    ("tty", "bin", "xbin", "adf", "idf", "image2", "brender_pix", "concat", "hls", "ffmetadata", "srt", "webvtt")
)
# Containers without an index, whose duration FFmpeg estimates from their bit rate.
_ESTIMATED_DURATION: Final = frozenset(
    ("mp3", "aac", "ac3", "eac3", "mpegts", "mpeg", "h264", "hevc", "mpegvideo", "dts", "amr", "flv")
)
_MP4, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
# Containers in which a seek is exact, because time stamps are stored or follow from the position.
_SEEKABLE: Final = frozenset((_MP4, _MATROSKA, "wav", "flac", "aiff", "w64", "caf", "mp3", "ogg"))
# Containers whose clock begins at 0, so that a single track that starts later is preceded by silence.
_ABSOLUTE_CLOCK: Final = frozenset((_MP4, _MATROSKA))
# Containers whose clock may jump where a broadcast was cut.
_BROKEN_CLOCK: Final = frozenset(("mpegts", "mpeg", "flv", "asf"))
_MAX_SILENCE_S: Final = 5
"""A single track that starts later than this was cut out of a longer recording, whose clock it has kept. [ours]"""
_MAX_JUMP_S: Final = 10
"""A jump of a clock by more than this is no pause. [FFmpeg's dts_delta_threshold]"""
_PREROLL_S: Final = 1
"""Decoding begins this long before the requested time, so that decoders and resamplers have settled there. [ours]"""
_MIN_SEEK_S: Final = 10
"""Up to here decoding from the beginning costs less than it could go wrong. [ours]"""
_SEARCHED_BYTES: Final = 1 << 20
"""Beginning of a file of which some byte is not 0. [ours]"""
_STREAMED_BYTES: Final = 2**31 - 2**16
"""Writers to a pipe leave lengths of about 2 or 4 GiB in a header: 0x7FFFF000, 0x80000000, 0xFFFFFFFF. [ours]"""
_OPEN_OPTIONS: Final = {"protocol_whitelist": "file"}

logger = logging.getLogger(__name__)


@runtime_checkable
class FrameSink(Protocol):
    """Takes the decoded frames of one track."""

    is_done: bool
    """Whether later frames are of no use."""

    def push(self, time_s: Fraction | None, frame: Any) -> None:
        """Takes an AudioFrame or VideoFrame that plays at `time_s`; None where its container does not say."""
        ...

    def finish(self) -> None:
        """Gets called when the track has ended."""
        ...


class MediaReader:
    """An open media file.

    Attributes:
        name: the file in messages.
        video: its picture track, None without one.
        audio: its sound track, None without one.
        start_s: the time of the container's clock at which the file begins to play.
        notes: sentences on what is wrong with the file, although it is read.
    """

    def __init__(self, container: InputContainer, name: str, quiet: bool) -> None:
        self.container, self.name, self._quiet = container, name, quiet
        self.format_name = container.format.name
        self.notes: list[str] = []
        if self.format_name in _NO_FILM or self.format_name.endswith("_pipe"):
            raise MediaError(f"{name} holds neither sound nor video; use a file such as MP4, MOV, WAV or MP3")
        # Cover art of a song is a picture track, but none that plays.
        moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        self.video: VideoStream | None = self._choose("picture", moving)
        self.audio: AudioStream | None = self._choose("sound", list(container.streams.audio))
        if self.video is None and self.audio is None:
            raise MediaError(f"{name} holds neither a picture track nor a sound track that can be decoded")
        self.start_s = self._start()

    def note(self, text: str) -> None:
        """Keeps and logs a sentence about a file that is read nevertheless; the log begins it with the file's name."""
        self.notes.append(text)
        if not self._quiet:
            logger.warning("note: %s %s", self.name, text)

    def decode(self, *sinks: tuple[Track, FrameSink], from_s: Fraction = Fraction(0)) -> None:
        """Decodes tracks in one pass into their sinks, until all of them are done or the file ends.

        Frames before `from_s` may be left out. Damaged packets are left out and counted in a note.
        """
        by_index = {track.index: sink for track, sink in sinks}
        tracks = [track for track, _ in sinks]
        for index, time_s, frame in self.frames(*tracks, from_s=from_s, is_done=lambda index: by_index[index].is_done):
            by_index[index].push(time_s, frame)
        for sink in by_index.values():
            sink.finish()

    def frames(
        self,
        *tracks: Track,
        from_s: Fraction = Fraction(0),
        is_done: Callable[[int], bool] = lambda _: False,
    ) -> Iterator[tuple[int, Fraction | None, Any]]:
        """Yields the decoded frames of tracks in the order of the file: index of the track, when it plays, frame.

        Frames before `from_s` may be left out, and those of tracks whose index `is_done` are. Damaged packets are left
        out and counted in a note.
        """
        clocks = {track.index: _Clock(self.format_name in _BROKEN_CLOCK, self.start_s) for track in tracks}
        num_damaged = dict.fromkeys(clocks, 0)
        self._seek(from_s)
        for packet in self._demuxed(list(tracks)):
            index = packet.stream_index
            if is_done(index):
                if all(map(is_done, clocks)):
                    break
                continue
            frames, is_damaged = _decoded(packet)
            # In a WAV this only means that its length is wrong.
            num_damaged[index] += is_damaged and self.format_name != "wav"
            for frame in frames:
                yield index, clocks[index].time_s(frame), frame
        for track in tracks:
            if num_damaged[track.index]:
                self.note(
                    f"has damaged packets of {_medium(track)} ({num_damaged[track.index]}); what can be decoded is used"
                )

    def packets(self, track: Track) -> Iterator[Packet]:
        """Yields the packets of a track, without the empty ones, as far as they can be read."""
        return (packet for packet in self._demuxed([track]) if packet.size)

    def declared_s(self, track: Track) -> float | None:
        """Returns the duration that the header gives a track; None where it gives none, or one that means nothing."""
        if self.format_name in _ESTIMATED_DURATION:
            return None
        if track.duration is not None and track.time_base is not None:
            seconds = float(track.duration * track.time_base)
            return None if seconds * (track.codec_context.bit_rate or 0) / 8 >= _STREAMED_BYTES else seconds
        # Matroska has no duration of a track, but a tag for it: 00:00:01.521000000.
        tag = next((text for key, text in track.metadata.items() if key.upper().startswith("DURATION")), "")
        parts = tag.split(":")
        try:
            return sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
        except ValueError:
            return None

    def declared_end_s(self, track: Track) -> float | None:
        """Returns when a track ends by its header; None where that says nothing."""
        seconds = None if track.duration is None else self.declared_s(track)
        if seconds is None:
            return None
        return seconds + float(to_seconds(track.start_time, track.time_base) - self.start_s)

    def check_complete(self, track: Track, end_s: float) -> None:
        """Notes where a track ends well before the time that its header promises."""
        declared_s = self.declared_s(track)
        if declared_s is not None and end_s < declared_s - max(0.15, 0.05 * declared_s):
            self.note(
                f"is incomplete: its header promises {declared_s:.2f} s of {_medium(track)}, {end_s:.2f} s could be "
                "read and are used"
            )

    def too_long(self, track: Track, start_s: float, limit_s: float) -> MediaError:
        """Returns the error for a track of which more than `limit_s` lies behind `start_s`."""
        length_s = (self.declared_s(track) or 0.0) - start_s
        length = f"lasts {length_s:.2f} s" if length_s > limit_s else f"is longer than {limit_s:.2f} s"
        return MediaError(
            f"the {_medium(track)} of {self.name} {length}, at most {limit_s:.2f} s can be used; "
            "cut it, or pass --trim to use its beginning"
        )

    def _choose(self, what: str, tracks: list[Any]) -> Any:
        """Returns the first track with the default flag among those that can be decoded, else the first one."""
        usable = [track for track in tracks if track.codec_context is not None]
        default = [track for track in usable if track.disposition & Disposition.default]
        chosen = next(iter(default or usable), None)
        if chosen is not None and len(usable) > 1:
            language = chosen.metadata.get("language", "und")
            details = codec_name(chosen) + ("" if language == "und" else f", {language}")
            which = f"number {usable.index(chosen) + 1} ({details})"
            reason = "has the default flag" if default else "comes first"
            self.note(f"has {len(usable)} {what} tracks; {which}, which {reason}, is used")
        return chosen

    def _start(self) -> Fraction:
        tracks = [track for track in (self.video, self.audio) if track is not None]
        starts = [to_seconds(track.start_time, track.time_base) for track in tracks]
        if len(tracks) == 1 and self.format_name in _ABSOLUTE_CLOCK and 0 <= starts[0] <= _MAX_SILENCE_S:
            return Fraction(0)
        return min(starts)

    @property
    def can_seek(self) -> bool:
        """Returns whether a seek saves decoding all that comes before."""
        return self.format_name in _SEEKABLE

    def _seek(self, from_s: Fraction) -> None:
        if from_s < _MIN_SEEK_S or not self.can_seek:
            return
        try:
            self.container.seek(int((from_s + self.start_s - _PREROLL_S) * av.time_base))
        except FFmpegError:
            # Without an index the demuxer stays where it is, and everything is decoded.
            self.container.seek(int(self.start_s * av.time_base))

    def _demuxed(self, tracks: list[Track]) -> Iterator[Packet]:
        try:
            yield from (packet for packet in self.container.demux(tracks) if packet.size)
        except FFmpegError as error:
            self.note(f"cannot be read to its end ({error_text(error)}); what comes before is used")
        # What the decoders hold back comes out with an empty packet.
        for track in tracks:
            packet = Packet()
            packet.stream, packet.time_base = track, track.time_base
            yield packet


class _Clock:
    """Seconds since the file begins to play, for the frames of one track in their order."""

    def __init__(self, may_break: bool, start_s: Fraction) -> None:
        self._may_break, self._shift_s = may_break, -start_s
        self._next_s: Fraction | None = None

    def time_s(self, frame: AudioFrame | VideoFrame) -> Fraction | None:
        if frame.pts is None:
            return None
        time_s = to_seconds(frame.pts, frame.time_base) + self._shift_s
        if self._may_break and self._next_s is not None and abs(time_s - self._next_s) > _MAX_JUMP_S:
            self._shift_s += self._next_s - time_s
            time_s = self._next_s
        length_s = (
            Fraction(frame.samples, frame.sample_rate)
            if isinstance(frame, AudioFrame)
            else to_seconds(frame.duration, frame.time_base)
        )
        self._next_s = time_s + length_s
        return time_s


@contextmanager
def open_media(file: MediaFile, quiet: bool = False, name: str | None = None) -> Iterator[MediaReader]:
    """Opens a media file. Errors of PyAV while it is open are raised as MediaErrors about this file.

    quiet: drops notes, for a file that is read a second time.
    name: the file in messages, for content without a name.
    """
    if isinstance(file, bytes):
        name, opened = name or "the file", io.BytesIO(file)
    else:
        # Absolute, because FFmpeg reads "a:b.mp4" as a protocol.
        name, opened = name or str(file), str(check_readable(Path(file)))
    try:
        with av.open(opened, options=_OPEN_OPTIONS, metadata_errors="replace") as container:
            reader = MediaReader(container, name, quiet)
            if reader.format_name == "wav":
                _check_wav_length(reader, file)
            yield reader
    except FFmpegError as error:
        raise MediaError(
            f"{name} is no sound or video that can be read, or is damaged ({error_text(error)})"
        ) from error


def check_readable(path: Path) -> Path:
    """Returns `path` as an absolute path. Raises MediaError unless it is a regular file that can be read, not empty."""
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder; name a file in it")
        if not path.exists():
            raise MediaError(f"{path} does not exist; check its name")
        if not path.is_file():
            raise MediaError(f"{path} is not a regular file; copy its content to one first")
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); was it saved or downloaded completely?")
        with path.open("rb") as file:
            # What a download or a disk has left unwritten; FFmpeg would look through gigabytes of it for a beginning.
            if not any(file.read(_SEARCHED_BYTES)):
                raise MediaError(f"{path} begins with nothing but zeros; was it saved or downloaded completely?")
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {os_error_text(error)}") from error
    return path.absolute()


def codec_name(track: Track) -> str:
    """Returns how the track is stored, as `h264`, whichever decoder reads it."""
    return track.codec_context.codec.canonical_name


def to_seconds(ticks: int | None, time_base: Fraction | None) -> Fraction:
    """Returns the seconds of a time stamp; 0 where it is missing."""
    return Fraction(0) if ticks is None or time_base is None else ticks * time_base


def error_text(error: FFmpegError) -> str:
    """Returns what FFmpeg says, without codes and paths."""
    return (error.strerror or type(error).__name__).lower()


def _check_wav_length(reader: MediaReader, file: MediaFile) -> None:
    """Notes where a WAV holds less sound than its header says, which FFmpeg does not tell."""
    with io.BytesIO(file) if isinstance(file, bytes) else Path(file).open("rb") as opened:
        size = opened.seek(0, io.SEEK_END)
        position = 12
        while position + 8 <= size:
            opened.seek(position)
            name, length = struct.unpack("<4sI", opened.read(8))
            position += 8
            if name == b"data" and position + length > size and length < _STREAMED_BYTES:
                reader.note(
                    f"is incomplete: its header promises {length} bytes of sound, the {size - position} that are there "
                    "are used"
                )
            position += length + length % 2


def _medium(track: Track) -> str:
    return "video" if isinstance(track, VideoStream) else "sound"


def _decoded(packet: Packet) -> tuple[list[Any], bool]:
    """Returns the frames that a packet completes and whether it is damaged."""
    try:
        frames = packet.decode()
    except FFmpegError:
        return [], packet.size > 0
    return frames, packet.is_corrupt or any(frame.is_corrupt for frame in frames)
