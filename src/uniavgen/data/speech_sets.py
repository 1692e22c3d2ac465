"""Speech sets as they are published: a table of transcripts (LJSpeech, audiofolder), or text files beside the audio.

    metadata.csv               `id|text|normalised` lines, audio in wavs/ID.wav [LJSpeech], or a table with the columns
                               file_name and text, optionally speaker [Hugging Face audiofolder]
    SPEAKER/CHAPTER/NAME.wav   with NAME.normalized.txt or NAME.original.txt beside it [LibriTTS]
    SPEAKER/CHAPTER/NAME.flac  with lines `NAME TEXT` in a file *.trans.txt beside it [LibriSpeech]

They may lie at any depth of a folder. A key is the path of the audio without its suffix; periods in it become
underscores, because tar readers would split the key there. Sets in tar files of audio and JSON (Emilia) are shards
already (`data.shards`).

A name here is a path in the folder of the set, with slashes; a stem is one without its suffix.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from uniavgen.artifacts import os_error_text, read_text
from uniavgen.data.sample import AUDIO_PARTS, Sample
from uniavgen.data.shard_index import is_sample_key
from uniavgen.errors import DataError, MediaError
from uniavgen.media.audio import read_audio
from uniavgen.timebase import Timebase

SPEECH_TABLE: Final = "metadata.csv"
TRANSCRIPT_SUFFIXES: Final = (".normalized.txt", ".original.txt")
"""The first of these beside an audio file is read: it holds the words that are spoken."""
CHAPTER_SUFFIX: Final = ".trans.txt"
_FILE_COLUMNS: Final = ("file_name", "audio_file", "audio", "path", "id")
_TEXT_COLUMNS: Final = (
    *("normalized_text", "normalised_text", "normalized", "normalised"),
    *("text", "transcription", "transcript", "sentence"),
)
"""The first of these that is not empty in a row is read."""
_SPEAKER_COLUMNS: Final = ("speaker", "speaker_id", "speaker_name", "voice", "client_id")
_LJSPEECH_COLUMNS: Final = ("id", "text", "normalized_text")
_REMEDY: Final = "save it as UTF-8 text"


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """Where a sample of a speech set lies. What is missing is said when it is read."""

    audio: Path | None
    transcript: str | Path | None
    """The text, or its file."""
    speaker: str
    """Empty where it is unknown."""
    origin: str
    """The file that holds the transcript or should, for errors."""


@dataclass(frozen=True, kw_only=True)
class SpeechSet:
    """The utterances of a published set, as `find_speech_set` finds them."""

    utterances: Mapping[str, Utterance]
    base: Timebase

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.utterances)

    def read(self, key: str) -> Sample:
        """Decodes one utterance. Raises DataError where its transcript or its audio is missing or damaged."""
        utterance = self.utterances[key]
        if not is_sample_key(key):
            raise DataError(f"{utterance.origin} names '{key}', which is no file of its folder; copy it there")
        text = utterance.transcript
        text = read_text(text, remedy=_REMEDY) if isinstance(text, Path) else text or ""
        if utterance.audio is None:
            raise DataError(f"'{key}' of {utterance.origin} has no audio file; copy it beside its transcript")
        if not text.strip():
            raise DataError(f"'{key}' has no transcript in {utterance.origin}; give what is spoken")
        try:
            waveform = read_audio(utterance.audio, self.base.sample_rate_hz)
        except MediaError as error:
            raise DataError(f"'{key}' cannot be decoded: {error}") from error
        speaker = utterance.speaker or key
        return Sample(key=key, text=" ".join(text.split()), caption="", speaker=speaker, waveform=waveform)


def find_speech_set(folder: Path, base: Timebase) -> SpeechSet | None:
    """Returns the speech set that a folder holds, by the tables and transcripts in it; None where it holds none.

    Raises DataError where a table or a list of transcripts cannot be read, or two utterances would have one key.
    """
    names = tuple(_files(folder))
    tables = [name for name in names if PurePosixPath(name).name == SPEECH_TABLE]
    if tables:
        found = [pair for table in tables for pair in _table_utterances(folder, table, names)]
    elif any(name.endswith((CHAPTER_SUFFIX, *TRANSCRIPT_SUFFIXES)) for name in names):
        found = list(_transcribed_utterances(folder, names))
    else:
        return None
    utterances: dict[str, Utterance] = {}
    for key, utterance in found:
        if key in utterances:
            raise DataError(
                f"the key '{key}' occurs twice in {folder}, in {utterances[key].origin} and {utterance.origin}; "
                "give every utterance a name of its own"
            )
        utterances[key] = utterance
    return SpeechSet(utterances=utterances, base=base)


def _files(folder: Path) -> Iterator[str]:
    """Yields the names of the files below a folder, sorted, without hidden ones."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{folder} cannot be read: {os_error_text(error)}") from error

    visited: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        is_again = real in visited  # A link may lead back to a folder above it.
        visited.add(real)
        folders[:] = [] if is_again else sorted(name for name in folders if not name.startswith("."))
        place = Path(root).relative_to(folder)
        yield from ((place / name).as_posix() for name in sorted(names) if not (is_again or name.startswith(".")))


def _audio_by_stem(names: Sequence[str], below: str = ".") -> dict[str, str]:
    """Returns the audio files below a folder by their stems; of several with one stem the first of AUDIO_PARTS."""
    prefix = "" if below == "." else f"{below}/"
    kinds = {part: rank for rank, part in enumerate(AUDIO_PARTS)}
    audio = [name for name in names if name.startswith(prefix) and _audio_kind(name) in kinds]
    found: dict[str, str] = {}
    for name in sorted(audio, key=lambda name: kinds[_audio_kind(name)]):
        found.setdefault(_stem(name), name)
    return dict(sorted(found.items()))


def _audio_kind(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _stem(name: str) -> str:
    """Returns a name without its suffix, where that is one of audio."""
    return name.rpartition(".")[0] if _audio_kind(name) in AUDIO_PARTS else name


def _key(stem: str) -> str:
    return "/".join(part if part == ".." else part.replace(".", "_") for part in stem.split("/"))


def _transcribed_utterances(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Utterance]]:
    """Yields key and utterance of each audio file and of each transcript, in the order of their names."""
    audio = _audio_by_stem(names)
    transcripts: dict[str, tuple[Path, str | Path]] = {}
    for suffix in reversed(TRANSCRIPT_SUFFIXES):
        for name in names:
            if name.endswith(suffix):
                transcripts[name.removesuffix(suffix)] = folder / name, folder / name
    for name in names:
        if name.endswith(CHAPTER_SUFFIX):
            for line in read_text(folder / name, remedy=_REMEDY).split("\n"):
                if line.strip():
                    stem, *text = line.split(maxsplit=1)
                    transcripts[str(PurePosixPath(name).parent / stem)] = folder / name, "".join(text)
    for stem in sorted({*audio, *transcripts}):
        origin, transcript = transcripts.get(stem, (folder / f"{stem}{TRANSCRIPT_SUFFIXES[0]}", None))
        yield (
            _key(stem),
            Utterance(
                audio=folder / audio[stem] if stem in audio else None,
                transcript=transcript,
                speaker=_speaker(folder, stem),
                origin=str(origin),
            ),
        )


def _speaker(folder: Path, stem: str) -> str:
    """Returns the speaker of SPEAKER/CHAPTER/NAME, also where `folder` is a speaker's or a chapter's own."""
    chapter = (folder.absolute() / stem).parent
    name, above = PurePosixPath(stem).name, chapter.parent.name
    is_below = stem.count("/") >= 2 or (above and name.startswith((f"{above}_", f"{above}-")))
    return above if is_below else chapter.name


def _table_utterances(folder: Path, table: str, names: Sequence[str]) -> Iterator[tuple[str, Utterance]]:
    """Yields key and utterance of each row of a table, then of the audio below its folder that no row names."""
    place = PurePosixPath(table).parent
    audio = _audio_by_stem(names, str(place))
    by_file_name: dict[str, list[str]] = {}
    for stem in audio:
        by_file_name.setdefault(PurePosixPath(stem).name, []).append(stem)

    def find(stem: str) -> str | None:
        candidates = [stem, str(place / "wavs" / PurePosixPath(stem).relative_to(place))]
        # Tables may name files of other folders than that in which they lie now.
        same = by_file_name.get(PurePosixPath(stem).name, [])
        return next((stem for stem in candidates if stem in audio), same[0] if len(same) == 1 else None)

    unnamed = set(audio)
    for file_name, text, speaker in _read_table(folder / table):
        stem = _stem(str(place / file_name))
        found = None if file_name.startswith("/") else find(stem)
        unnamed.discard(found or "")
        path = None if found is None else folder / audio[found]
        yield _key(stem), Utterance(audio=path, transcript=text, speaker=speaker, origin=str(folder / table))
    for stem in sorted(unnamed):
        path = folder / audio[stem]
        yield _key(stem), Utterance(audio=path, transcript=None, speaker="", origin=str(folder / table))


def _read_table(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields file name, text and speaker of each row. Raises DataError where the table has no such columns."""
    content = read_text(path, remedy=_REMEDY).lstrip("\n")
    header = content.partition("\n")[0]
    delimiter, columns = _find_columns(header)
    has_header = bool(columns)
    if not has_header and "|" not in header:
        raise DataError(
            f"{path} begins with {header[:60]!r}, expected a first line with the columns file_name and text, or lines "
            "id|text|normalised; write them so"
        )
    # Between pipes, as LJSpeech has them, quotation marks are text.
    quoting = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    rows = csv.DictReader(
        io.StringIO(content, newline=""),
        fieldnames=columns or _LJSPEECH_COLUMNS,
        restval="",
        delimiter=delimiter,
        quoting=quoting,
    )
    try:
        for number, row in enumerate(rows):
            name = _first(row, _FILE_COLUMNS).replace("\\", "/")
            if name and not (has_header and number == 0):
                # One person reads the books of LJSpeech.
                narrator = path.absolute().parent.name if delimiter == "|" else ""
                yield name, _first(row, _TEXT_COLUMNS), _first(row, _SPEAKER_COLUMNS) or narrator
    except csv.Error as error:
        raise DataError(f"{path} behind line {rows.line_num} is no table ({error}); write it anew") from error


def _find_columns(header: str) -> tuple[str, list[str]]:
    """Returns the delimiter and the columns of a header; no columns where the line is none."""
    for delimiter in ",|;\t":
        columns = [cell.strip().strip('"').lower() for cell in header.split(delimiter)]
        if not {*columns}.isdisjoint(_FILE_COLUMNS) and not {*columns}.isdisjoint(_TEXT_COLUMNS):
            return delimiter, columns
    return "|", []


def _first(row: Mapping[str, str], columns: Sequence[str]) -> str:
    return next((text for column in columns if (text := row.get(column, "").strip())), "")
