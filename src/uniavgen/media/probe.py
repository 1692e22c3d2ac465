"""What the headers of a media file say."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from uniavgen.artifacts import parse_json
from uniavgen.errors import DataError
from uniavgen.media.reader import MediaFile, codec_name, open_media

SETTINGS_KEY: Final = "uniavgen"
"""Of the JSON object in the comment tag."""


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
    settings: Mapping[str, Any] | None
    """What the file was made with, as `mux` has stored it; None in a file from elsewhere."""


def probe(file: MediaFile) -> MediaInfo:
    """Returns what a file's headers say. Raises MediaError where it holds neither sound nor video."""
    with open_media(file, quiet=True) as reader:
        video, audio = reader.video, reader.audio
        metadata = reader.container.metadata
        comment = next((text for key, text in metadata.items() if key.lower() == "comment"), None)
        return MediaInfo(
            video=video
            and VideoInfo(
                codec=codec_name(video),
                width_px=video.codec_context.width,
                height_px=video.codec_context.height,
                fps=video.average_rate or video.guessed_rate,
                duration_s=reader.declared_s(video),
            ),
            audio=audio
            and AudioInfo(
                codec=codec_name(audio),
                rate_hz=audio.codec_context.sample_rate,
                channels=audio.codec_context.channels,
                duration_s=reader.declared_s(audio),
            ),
            settings=_parse_settings(comment),
        )


def _parse_settings(comment: str | None) -> dict[str, Any] | None:
    try:
        settings = parse_json(comment or "", "the comment").get(SETTINGS_KEY)
    except DataError:
        return None
    return settings if isinstance(settings, dict) else None
