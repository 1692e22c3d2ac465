"""Opening sound and video files: what is in them, and PyAV's errors as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from uniavgen.artifacts import os_error_text
from uniavgen.errors import MediaError

# Demuxers that take a picture, a text or any bytes for a film.
_NO_FILM = {"tty", "bin", "xbin", "adf", "idf", "image2", "brender_pix", "concat", "hls", "ffmetadata", "srt", "webvtt"}
# Streams without an index, whose duration ffmpeg estimates from their bit rate.
_GUESSED_DURATION = {"mp3", "aac", "ac3", "eac3", "mpegts", "mpeg", "h264", "hevc", "mpegvideo", "dts", "amr"}
_OPEN_OPTIONS = {"protocol_whitelist": "file"}


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """A picture track as its header describes it."""

    codec: str
    width_px: int
    height_px: int
    fps: Fraction | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """A sound track as its header describes it."""

    codec: str
    rate_hz: int
    channels: int
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """The tracks of a file; None for one that it lacks."""

    video: VideoInfo | None
    audio: AudioInfo | None
    comment: str | None
    """The comment tag, where this package stores its settings as JSON."""


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
        with path.open("rb"):
            pass
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {os_error_text(error)}") from error
    return path.absolute()


def probe(path: str | Path) -> MediaInfo:
    """Read a file's headers, not its content; MediaError where it holds neither sound nor video."""
    with open_media(path) as container:
        video, audio = find_video_stream(container), find_audio_stream(container)
        comment = next((text for key, text in container.metadata.items() if key.lower() == "comment"), None)
        return MediaInfo(
            video=video
            and VideoInfo(
                codec=codec_name(video),
                width_px=video.codec_context.width,
                height_px=video.codec_context.height,
                fps=video.average_rate or video.guessed_rate,
                duration_s=declared_duration_s(container, video),
            ),
            audio=audio
            and AudioInfo(
                codec=codec_name(audio),
                rate_hz=audio.codec_context.sample_rate,
                channels=audio.codec_context.channels,
                duration_s=declared_duration_s(container, audio),
            ),
            comment=comment,
        )


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """A file opened for reading. Errors while it is open, by PyAV, are MediaErrors about this file."""
    # Absolute, because ffmpeg reads "a:b.mp4" as a protocol.
    file = check_readable(Path(path))
    try:
        with av.open(str(file), options=_OPEN_OPTIONS, metadata_errors="replace") as container:
            name = container.format.name
            if name in _NO_FILM or name.endswith("_pipe"):
                raise MediaError(f"{path} holds neither sound nor video; use a file such as MP4, MOV, WAV or MP3")
            if find_video_stream(container) is None and find_audio_stream(container) is None:
                raise MediaError(f"{path} holds neither a picture track nor a sound track that can be decoded")
            yield container
    except FFmpegError as error:
        cause = (error.strerror or type(error).__name__).lower()
        raise MediaError(f"{path} is no sound or video that can be read, or is damaged ({cause})") from None


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """The first moving picture; cover art of a song is none."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def find_audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track that can be decoded."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def codec_name(stream: VideoStream | AudioStream) -> str:
    """How the track is stored, as `h264`, whichever decoder reads it."""
    return stream.codec_context.codec.canonical_name


def to_seconds(ticks: int | None, time_base: Fraction | None) -> Fraction:
    """Seconds of a time stamp; 0 where it is missing."""
    return Fraction(0) if ticks is None or time_base is None else ticks * time_base


def start_time_s(container: InputContainer) -> Fraction:
    """The time on the file's clock at which it begins to play."""
    return Fraction(container.start_time or 0, av.time_base)


def declared_duration_s(container: InputContainer, stream: VideoStream | AudioStream) -> float | None:
    """Duration that the header gives a track, or else the file; None where it gives none, or ffmpeg guesses it."""
    if container.format.name in _GUESSED_DURATION:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def check_length(path: str | Path, what: str, seconds: float, limit_s: float) -> None:
    """MediaError where `what` of a file is longer than `limit_s`."""
    if seconds > limit_s:
        raise MediaError(
            f"the {what} of {path} lasts {seconds:.2f} s, at most {limit_s:.2f} s can be used; "
            "cut it, or pass --trim to use its beginning"
        )


def check_complete(path: str | Path, what: str, found_s: float, promised_s: float | None) -> None:
    """MediaError where less was found than the header promises: the file was cut off."""
    if promised_s is not None and found_s < promised_s - max(0.15, 0.05 * promised_s):
        raise MediaError(
            f"{path} is incomplete: its header promises {promised_s:.2f} s of {what}, {found_s:.2f} s could be read; "
            "copy or download it again"
        )
