"""Columns of other people's lists by the names that they have there, and what they mean.

A name counts whatever its case and signs: `Video Link`, `video_link` and `video-link` are one. Mappings inside a row
(`info` of TalkVid, `duration` of CelebV-HQ) are looked into, behind the row's own columns.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from uniavgen.data.given_clip import Box, GivenClip
from uniavgen.data.local_videos import LocalVideos, plain_identifier
from uniavgen.data.sample import parse_phones
from uniavgen.data.words import Word
from uniavgen.errors import DataError

VIDEO: Final = ("video", "video_path", "video_file", "file_name", "filename", "file", "file_path", "path", "clip_path")
VIDEO_ID: Final = ("video_id", "youtube_id", "ytb_id", "yt_id", "ytid", "video_name", "video_link", "video_url", "url")
AUDIO: Final = ("audio", "audio_path", "audio_file", "wav", "wav_path")
TEXT: Final = ("speech", "text", "transcript", "transcription", "normalized_text", "sentence", "utterance", "asr")
CAPTION: Final = ("caption", "description", "video_caption", "prompt")
SPEAKER: Final = ("speaker", "speaker_id", "person", "person_id", "identity", "spk_id")
LANGUAGE: Final = ("language", "lang")
START: Final = ("start_s", "start_time", "start_sec", "start_seconds", "start", "begin")
END: Final = ("end_s", "end_time", "end_sec", "end_seconds", "end", "stop")
LENGTH: Final = ("duration_s", "duration")
BOX: Final = ("bbox", "box", "crop", "face_box", "xyxy_norm")
KEY: Final = ("key", "clip_id", "clip_name", "utt_id", "id")
WORDS: Final = "words"
_WIDTH: Final = ("raw_video_width", "video_width", "width")
_HEIGHT: Final = ("raw_video_height", "video_height", "height")
_RENAMED: Final = {"license": "licence", "license_url": "licence_url"}
"""Columns of rights that go by another name."""
_EDGES: Final = (("left", "top", "right", "bottom"), ("x1", "y1", "x2", "y2"))
_SIDES: Final = (("x", "y", "w", "h"), ("x", "y", "width", "height"))


def normalized_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with plain names of columns, and those of mappings inside it."""
    named = {_plain(name): value for name, value in row.items() if isinstance(name, str)}
    inner = {
        _plain(name): value
        for column, mapping in named.items()
        if isinstance(mapping, Mapping) and column not in BOX
        for name, value in mapping.items()
        if isinstance(name, str)
    }
    own = {name: value for name, value in named.items() if not isinstance(value, Mapping) or name in BOX}
    return inner | own


def names_video(columns: Iterable[str]) -> bool:
    """Returns whether rows of these columns name videos."""
    return not {*VIDEO, *VIDEO_ID}.isdisjoint(map(_plain, columns))


def parse_row(row: Mapping[str, Any], origin: str, videos: LocalVideos) -> GivenClip:
    """Returns the clip of a row. Raises DataError where it names no video or a value is not what its column says."""
    row = normalized_row(row)
    name, identifier = _text(row, VIDEO, origin), _text(row, VIDEO_ID, origin)
    if not name and not identifier:
        raise DataError(
            f"{origin} names no video; it has the columns {', '.join(row) or 'none'}, expected one of "
            f"{', '.join((*VIDEO[:3], *VIDEO_ID[:2]))}"
        )
    key = _text(row, KEY, origin)
    start_s, end_s = _times(row, origin)
    video = videos.at_path(name) if name else None
    if not name:
        # Clips that were cut by the list bear its names; times count in whole videos.
        video = videos.of_identifier(key) if key else None
        start_s, end_s = (start_s, end_s) if video is None else (0.0, None)
        video = video or videos.of_identifier(identifier)
    audio_name = _text(row, AUDIO, origin)
    audio = videos.at_path(audio_name) if audio_name else None
    missing = [each for each, file in ((name or identifier, video), (audio_name, audio)) if each and file is None]
    words = tuple(Word(text=word, start_s=a, end_s=b) for word, a, b in parse_phones(origin, row.get(WORDS)))
    text = _text(row, TEXT, origin) or " ".join(word.text for word in words)
    used = {*VIDEO, *VIDEO_ID, *AUDIO, *TEXT, *CAPTION, *SPEAKER, *LANGUAGE, *START, *END, *LENGTH, *BOX, *KEY, WORDS}
    facts = other_facts(row, used)
    if "://" in identifier:
        facts.setdefault("source_url", identifier)
    return GivenClip(
        key=clip_key(key or _stem(name or plain_identifier(identifier), start_s if end_s is not None else None)),
        origin=origin,
        video=video,
        audio=audio,
        start_s=start_s,
        end_s=end_s,
        box=_box(row, origin),
        text=" ".join(text.split()),
        words=words,
        caption=_text(row, CAPTION, origin),
        speaker=_text(row, SPEAKER, origin),
        language=_text(row, LANGUAGE, origin),
        facts=facts,
        problem=f"names {' and '.join(missing)}, and no such file is in {videos.folder}" if missing else "",
    )


def other_facts(row: Mapping[str, Any], used: Collection[str]) -> dict[str, Any]:
    """Returns the columns of a row that are not used, with those of rights by their names here."""
    return {
        _RENAMED.get(column, column): value
        for column, value in row.items()
        if column not in used and isinstance(value, str | int | float) and value != ""
    }


def clip_key(name: str) -> str:
    """Returns a key that tar readers take: without periods, and without a way out of its folder."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(part.replace(".", "_") for part in parts)


def _stem(name: str, start_s: float | None) -> str:
    stem = re.sub(r"\.\w+$", "", name.rpartition("/")[2] if "://" in name or name.startswith("/") else name)
    return stem if start_s is None else f"{stem}-{round(1000 * start_s):08d}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _text(row: Mapping[str, Any], columns: Iterable[str], origin: str) -> str:
    """Returns the first of the columns that is not empty."""
    for column in columns:
        value = row.get(column)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"{origin} has {str(value)[:60]!r} as its {column}, expected a text")
        if str(value).strip():
            return str(value).strip()
    return ""


def _times(row: Mapping[str, Any], origin: str) -> tuple[float, float | None]:
    start_s, end_s, length_s = (_seconds(row, columns, origin) for columns in (START, END, LENGTH))
    if end_s is None and start_s is not None and length_s is not None:
        end_s = start_s + length_s
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise DataError(f"{origin} ends at {end_s:g} s, and begins at {start_s:g} s; mend its times")
    return start_s or 0.0, end_s


def _seconds(row: Mapping[str, Any], columns: Iterable[str], origin: str) -> float | None:
    """Returns seconds, from a number or from `H:MM:SS.s`; None where no column has any."""
    column = next((name for name in columns if row.get(name) not in (None, "")), None)
    if column is None:
        return None
    value = row[column]
    try:
        parts = [float(part) for part in str(value).strip().removesuffix("s").replace(",", ".").split(":")]
    except ValueError:
        parts = []
    if isinstance(value, bool) or not 1 <= len(parts) <= 3 or not all(0 <= part < math.inf for part in parts):
        raise DataError(f"{origin} has {str(value)[:60]!r} as its {column}, expected seconds or H:MM:SS")
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def _box(row: Mapping[str, Any], origin: str) -> Box | None:
    """Returns a box in shares: of left, top, width, height, or of edges where the set's names say so."""
    column = next((name for name in BOX if row.get(name) not in (None, "", [], {})), None)
    if column is None:
        return None
    value = row[column]
    is_edges = column == "xyxy_norm"
    if isinstance(value, Mapping):
        names = next((names for names in (*_EDGES, *_SIDES) if {*names} <= {*value}), ())
        is_edges, value = names in _EDGES, [value[name] for name in names]
    try:
        left, top, right, bottom = map(float, value)
    except (TypeError, ValueError):
        raise DataError(f"{origin} has {str(row[column])[:60]!r} as its {column}, expected four numbers") from None
    if not is_edges:
        right, bottom = left + right, top + bottom
    if max(right, bottom) > 1.01:
        width, height = (next((row[name] for name in names if row.get(name)), None) for names in (_WIDTH, _HEIGHT))
        if width is None or height is None:
            raise DataError(f"{origin} has a {column} in pixels, and says not how large the picture is; add its width")
        left, right, top, bottom = (
            *(edge / float(width) for edge in (left, right)),
            *(edge / float(height) for edge in (top, bottom)),
        )
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in (left, top, right, bottom))
    if not (left < right and top < bottom):
        raise DataError(f"{origin} has a {column} without area: {str(row[column])[:60]}")
    return left, top, right, bottom


def table_folder(table: Path) -> LocalVideos:
    """Returns the videos that a table can name: those below its folder."""
    return LocalVideos(table.absolute().parent)
