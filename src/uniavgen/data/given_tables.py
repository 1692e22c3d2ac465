"""Lists of clips: JSON lines, tables of values between commas or tabs, and JSON (TalkVid, CelebV-HQ, SpeakerVid-5M)."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import parse_json, read_json_lines, read_text
from uniavgen.data.given_clip import GivenClip
from uniavgen.data.given_columns import names_video, normalized_row, parse_row, table_folder
from uniavgen.data.shard_index import is_sample_key
from uniavgen.errors import DataError

TABLE_SUFFIXES: Final = (".jsonl", ".csv", ".tsv", ".json")
_AVSPEECH: Final = ("video_id", "start", "end", "x", "y")
"""Columns of AVSpeech, whose table has no header; x and y are the middle of the face."""
_REMEDY: Final = "mend it"
_CLIPS: Final = "clips"
"""Column of the clips in CelebV-HQ's JSON."""


def read_table(path: Path) -> list[GivenClip]:
    """Returns the clips of a list; videos are looked for below its folder.

    Raises DataError where it is none, where a row has no video, or where two rows have one key.
    """
    videos = table_folder(path)
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path} holds no rows; give one a clip")
    if not any(names_video(normalized_row(row)) for _, row in rows[:100]):
        origin, row = rows[0]
        raise DataError(
            f"{origin} has the columns {', '.join(map(str, row)) or 'none'}; expected video (a path) or video_id, and "
            "of caption, speech, speaker, start and end what there is"
        )
    return check_keys([parse_row(row, origin, videos) for origin, row in rows], str(path))


def check_keys(clips: list[GivenClip], name: str) -> list[GivenClip]:
    """Returns clips whose keys differ and can be those of samples. Raises DataError for others."""
    first: dict[str, GivenClip] = {}
    for clip in clips:
        if not is_sample_key(clip.key):
            raise DataError(f"{clip.origin} has the id '{clip.key[:60]}', expected a name of letters and digits")
        if clip.key in first:
            raise DataError(
                f"the key '{clip.key}' occurs twice in {name}: {first[clip.key].origin} and {clip.origin}; give every "
                "clip an id of its own"
            )
        first[clip.key] = clip
    return clips


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        yield from read_json_lines(path, remedy=_REMEDY)
    elif suffix == ".json":
        yield from _json_rows(path)
    else:
        yield from _csv_rows(path, "\t" if suffix == ".tsv" else ",")


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a list, of a mapping of keys to rows, or of such a mapping under `clips`."""
    text = read_text(path, remedy=_REMEDY)
    # parse_json takes objects, and says what is wrong with a text.
    data: Any = parse_json(
        f'{{"{_CLIPS}": {text}}}' if text.lstrip().startswith("[") else text, str(path), remedy=_REMEDY
    )
    rows = data.get(_CLIPS, data)
    if isinstance(rows, Mapping) and not all(isinstance(row, Mapping) for row in rows.values()):
        rows = [rows]
    if isinstance(rows, Mapping):
        rows = [{"id": key, **row} for key, row in rows.items()]
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise DataError(f"{path} holds {json.dumps(rows)[:60]}, expected a list of clips; {_REMEDY}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"{path} clip {number} is {json.dumps(row)[:60]}, expected an object {{...}}; {_REMEDY}")
        yield f"{path} clip {number}", row


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = read_text(path, remedy=_REMEDY)
    names = list(_AVSPEECH) if _is_avspeech(text.partition("\n")[0].split(delimiter)) else None
    rows = csv.DictReader(io.StringIO(text, newline=""), fieldnames=names, delimiter=delimiter, strict=True)
    try:
        for row in rows:
            # Lines that are longer than the header give a list, under None.
            if None in row:
                raise DataError(
                    f"{path} line {rows.line_num} has {len(row[None])} values too many for the columns "
                    f"{', '.join(rows.fieldnames or ())}; put texts with a {delimiter!r} between quotation marks"
                )
            yield f"{path} line {rows.line_num}", {str(name): value for name, value in row.items() if value}
    except csv.Error as error:
        raise DataError(f"{path} behind line {rows.line_num} is no table ({error}); {_REMEDY}") from error


def _is_avspeech(cells: Sequence[str]) -> bool:
    if len(cells) != len(_AVSPEECH):
        return False
    try:
        return all(float(cell) >= 0 for cell in cells[1:])
    except ValueError:
        return False
