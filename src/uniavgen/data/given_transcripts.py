"""Transcripts beside videos: plain text, subtitles, JSON, and the files of LRS2, LRS3 and GRID."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import read_json, read_text
from uniavgen.data.given_columns import CAPTION, LANGUAGE, SPEAKER, TEXT, WORDS, normalized_row, other_facts
from uniavgen.data.sample import parse_phones
from uniavgen.data.words import Word
from uniavgen.errors import DataError

SUFFIXES: Final = (".json", ".align", ".txt", ".srt", ".vtt")
"""The first of these beside a video that says what is spoken is read; the JSON also says other things."""
_CUE: Final = re.compile(r"^(\S+)\s+-->\s+(\S+)")
_MARKUP: Final = re.compile(r"<[^>]*>|\{[^}]*\}")
"""Of subtitles; and noises in braces, of LRS3."""
_GRID_UNIT_S: Final = 1 / 25_000
_GRID_FPS: Final = 25
_GRID_FRAMES: Final = 75
"""Of a clip; copies of the set count frames in the place of GRID's unit."""
_SILENCE: Final = ("sil", "sp")
_REMEDY: Final = "mend it"


@dataclass(frozen=True, kw_only=True)
class GivenTranscript:
    """What a file beside a video says."""

    text: str = ""
    words: tuple[Word, ...] = ()
    caption: str = ""
    speaker: str = ""
    language: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_transcript(path: Path) -> GivenTranscript:
    """Reads a file by its suffix. Raises DataError where it is not what its suffix says."""
    if path.suffix == ".json":
        return _from_json(path)
    text = read_text(path, remedy=_REMEDY)
    if path.suffix == ".align":
        return _from_words(list(_grid_words(path, text)))
    if path.suffix in (".srt", ".vtt"):
        return GivenTranscript(text=_joined(_cue_lines(text)))
    if text.lstrip().startswith("Text:"):
        return _lrs(path, text)
    return GivenTranscript(text=_joined([text]))


def _joined(lines: Sequence[str]) -> str:
    """Returns lines as one, each once where it is repeated at once, as rolling subtitles do."""
    cleaned = [" ".join(_MARKUP.sub(" ", line).split()) for line in lines]
    kept = [line for number, line in enumerate(cleaned) if line and line != (cleaned[number - 1] if number else "")]
    return " ".join(kept)


def _cue_lines(text: str) -> list[str]:
    """Returns the lines of subtitles, without numbers, times and notes."""
    lines = []
    for block in re.split(r"\n\s*\n", text):
        rows = block.strip().split("\n")
        at = next((number for number, row in enumerate(rows) if _CUE.match(row.strip())), None)
        lines += [] if at is None else rows[at + 1 :]
    return lines


def _from_words(words: Sequence[Word]) -> GivenTranscript:
    return GivenTranscript(text=" ".join(word.text for word in words), words=tuple(words))


def _grid_words(path: Path, text: str) -> Iterator[Word]:
    """Yields the words of lines `START END WORD`, in 1/25,000 s, or in frames where all are those of one clip."""
    rows = [line.split() for line in text.split("\n") if line.strip()]
    try:
        times = [(int(row[0]), int(row[1]), row[2]) for row in rows]
    except (ValueError, IndexError):
        raise DataError(f"{path} has lines that are not START END WORD, such as {rows[0][:5]}; {_REMEDY}") from None
    is_frames = max((end for _, end, _ in times), default=0) <= 2 * _GRID_FRAMES
    unit_s = 1 / _GRID_FPS if is_frames else _GRID_UNIT_S
    for start, end, word in times:
        if word not in _SILENCE:
            yield Word(text=word, start_s=round(start * unit_s, 4), end_s=round(end * unit_s, 4))


def _lrs(path: Path, text: str) -> GivenTranscript:
    """Reads `Text:  WORDS` with, optionally, `Ref:` (LRS3: the talk) and lines WORD START END behind their header."""
    head, _, table = text.partition("WORD START END")
    values = dict(re.findall(r"^(\w+):[ \t]*(.*)$", head, re.MULTILINE))
    words = []
    for line in table.split("\n")[1:]:
        cells = line.split()
        if cells and not _MARKUP.fullmatch(cells[0]):
            try:
                words.append(Word(text=cells[0].lower(), start_s=float(cells[1]), end_s=float(cells[2])))
            except (ValueError, IndexError):
                raise DataError(
                    f"{path} has {line[:60]!r} among its words, expected WORD START END; {_REMEDY}"
                ) from None
    # Capitals are the way in which these sets are written, not shouting.
    spoken = _joined([values["Text"]]).lower()
    return GivenTranscript(text=spoken, words=tuple(words), speaker=values.get("Ref", "").strip())


def _from_json(path: Path) -> GivenTranscript:
    """Reads columns by their names, and words with times, also of Whisper's segments."""
    row = read_json(path, remedy=_REMEDY)
    segments = row.get("segments")
    plain = normalized_row({name: value for name, value in row.items() if name != "segments"})
    words = plain.get(WORDS)
    if isinstance(segments, list):
        parts = [part for part in segments if isinstance(part, Mapping)]
        words = words or [word for part in parts for word in part.get(WORDS) or ()]
    if isinstance(words, list) and all(isinstance(word, Mapping) for word in words):
        words = [[word.get("word", word.get("text")), word.get("start"), word.get("end")] for word in words]
    placed = tuple(
        Word(text=text.strip(), start_s=a, end_s=b) for text, a, b in parse_phones(str(path), words) if text.strip()
    )
    texts = {
        name: next((str(plain[column]).strip() for column in columns if plain.get(column) not in (None, "")), "")
        for name, columns in (("text", TEXT), ("caption", CAPTION), ("speaker", SPEAKER), ("language", LANGUAGE))
    }
    text = texts.pop("text") or " ".join(word.text for word in placed)
    used = {*TEXT, *CAPTION, *SPEAKER, *LANGUAGE, WORDS}
    facts = other_facts(plain, used)
    return GivenTranscript(text=_joined([text]), words=placed, facts=facts, **texts)
