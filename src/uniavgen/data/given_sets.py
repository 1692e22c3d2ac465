"""Sets of clips that other people have made: which files hold one, and their clips as samples.

    NAME.mp4 with NAME.txt, .json, .srt, .vtt   a folder of clips with transcripts, at any depth; LRS2 and LRS3
    s1/NAME.mpg with NAME.align                 GRID; the alignments may lie in a folder of their own
    LIST.jsonl, LIST.csv, LIST.tsv, LIST.json   columns by their names (`given_columns`): clips, or times of videos
    NAME.json without a video                   one row each of such a list (SpeakerVid-5M), with the videos below

What a set says is given, not measured: it is among the facts of a sample as `given`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32, UInt8

from uniavgen.artifacts import path_exists, read_json
from uniavgen.data.given_clip import GivenClip
from uniavgen.data.given_columns import START, clip_key, names_video, normalized_row, parse_row
from uniavgen.data.given_tables import TABLE_SUFFIXES, check_keys, read_table
from uniavgen.data.given_transcripts import SUFFIXES, GivenTranscript, read_transcript
from uniavgen.data.local_videos import LocalVideos, files_below, is_video
from uniavgen.data.sample import Sample
from uniavgen.data.words import Word
from uniavgen.errors import DataError, MediaError
from uniavgen.media.audio import read_audio
from uniavgen.media.video import read_video
from uniavgen.timebase import ClipTiming

TABLES: Final = tuple(f"metadata{suffix}" for suffix in TABLE_SUFFIXES)
"""A folder with one of these is the set that it lists."""
_GRID_SPEAKER: Final = re.compile(r"s\d{1,2}")


def is_table(path: Path) -> bool:
    """Returns whether a path is a file that may list clips."""
    return path.suffix.lower() in TABLE_SUFFIXES and path_exists(path) and path.is_file()


def find_given_clips(path: Path) -> list[GivenClip]:
    """Returns the clips of a list or of a folder with videos, in order; none where the folder holds no such set.

    Raises DataError where a list or a transcript is damaged, or two clips have one key.
    """
    if is_table(path):
        return read_table(path)
    table = next((path / name for name in TABLES if is_table(path / name)), None)
    files = list(files_below(path))
    videos = [file for file in files if is_video(file)]
    if not videos:
        return []
    if table is not None:
        return read_table(table)
    transcripts = _Transcripts.of(files)
    clips = list(_annotated(path, files, videos)) or [
        given_of_video(file, path, transcripts.find(file)) for file in videos
    ]
    return check_keys(clips, str(path))


def given_of_video(file: Path, folder: Path, transcripts: Sequence[Path]) -> GivenClip:
    """Returns a whole video with what the files beside it say; the first that says something of a kind counts."""
    read = [read_transcript(each) for each in transcripts]

    def first(name: str) -> str:
        return next((value for each in read if (value := getattr(each, name))), "")

    spoken = next((each for each in read if each.text), GivenTranscript())
    grid = next((part for part in reversed(file.parent.parts) if _GRID_SPEAKER.fullmatch(part)), "")
    has_alignment = any(each.suffix == ".align" for each in transcripts)
    return GivenClip(
        key=clip_key(str(file.relative_to(folder).with_suffix(""))),
        origin=str(transcripts[0] if transcripts else file),
        video=file,
        text=spoken.text,
        words=spoken.words,
        caption=first("caption"),
        speaker=first("speaker") or (grid if has_alignment else ""),
        language=first("language"),
        facts={name: value for each in read for name, value in each.facts.items()},
    )


def transcripts_beside(file: Path) -> list[Path]:
    """Returns the files beside a video that may hold its transcript."""
    return [each for suffix in SUFFIXES if path_exists(each := file.with_suffix(suffix))]


@dataclass(frozen=True)
class _Transcripts:
    """The files of a folder that may be transcripts."""

    beside: Mapping[Path, Sequence[Path]]
    """By the path without suffix."""
    alignments: Mapping[str, Sequence[Path]]
    """GRID's, by name, wherever they lie."""

    @classmethod
    def of(cls, files: Sequence[Path]) -> "_Transcripts":
        beside: dict[Path, list[Path]] = {}
        alignments: dict[str, list[Path]] = {}
        for file in files:
            if file.suffix in SUFFIXES:
                beside.setdefault(file.with_suffix(""), []).append(file)
            if file.suffix == ".align":
                alignments.setdefault(file.stem, []).append(file)
        return cls(beside, alignments)

    def find(self, video: Path) -> list[Path]:
        found = sorted(self.beside.get(video.with_suffix(""), ()), key=lambda each: SUFFIXES.index(each.suffix))
        if found:
            return found
        # Every speaker of GRID says some of the same sentences.
        speakers = {part for part in video.parts if _GRID_SPEAKER.fullmatch(part)}
        same = self.alignments.get(video.stem, ())
        return [each for each in same if len(same) == 1 or speakers & {*each.parts}][:1]


def _annotated(folder: Path, files: Sequence[Path], videos: Sequence[Path]) -> Iterator[GivenClip]:
    """Yields the clips of JSON files that are rows of a list of times by themselves, and have no video beside them."""
    with_video = {video.with_suffix("") for video in videos}
    local = LocalVideos(folder)
    for file in files:
        if file.suffix == ".json" and file.with_suffix("") not in with_video:
            row = normalized_row(read_json(file))
            if names_video(row) and not {*START}.isdisjoint(row):
                yield parse_row({"id": file.stem, **row}, str(file), local)


@dataclass(frozen=True, kw_only=True)
class GivenSet:
    """The clips of a set as samples, as `open_given_set` finds them."""

    clips: Mapping[str, GivenClip]
    timing: ClipTiming
    with_video: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.clips)

    def read(self, key: str) -> Sample:
        """Decodes one clip. Raises DataError where its files or its transcript are missing or damaged."""
        clip, fps = self.clips[key], self.timing.base.fps
        if clip.problem or clip.video is None:
            raise DataError(f"{clip.origin} {clip.problem}")
        if not clip.text:
            raise DataError(f"{clip.origin} gives no transcript of '{key}'; give what is spoken")
        start_frame = math.ceil(Fraction(clip.start_s) * fps)
        start_s = float(start_frame / fps)
        try:
            waveform = self._waveform(clip, start_s)
            frames = self._frames(clip, start_frame) if self.with_video else None
        except MediaError as error:
            raise DataError(f"'{key}' of {clip.origin} cannot be decoded: {error}") from error
        words = _placed(clip, start_s)
        return Sample(
            key=key,
            # Every word of a transcript has a time, or none has.
            text=" ".join(word.text for word in words) or clip.text,
            caption=clip.caption,
            speaker=clip.speaker or key,
            waveform=waveform,
            frames=frames,
            words=words,
            facts={"given": clip.given()},
        )

    def _waveform(self, clip: GivenClip, start_s: float) -> Float32[np.ndarray, " samples"]:
        assert clip.video is not None
        return read_audio(
            clip.audio or clip.video,
            self.timing.base.sample_rate_hz,
            start_s=start_s,
            max_s=None if clip.end_s is None else clip.end_s - start_s,
            trim=True,
        )

    def _frames(self, clip: GivenClip, start_frame: int) -> UInt8[np.ndarray, "F H W 3"]:
        assert clip.video is not None
        fps, most = self.timing.base.fps, self.timing.num_frames
        if clip.end_s is not None:
            most = min(most, max(math.floor(Fraction(clip.end_s) * fps) - start_frame, 1))
        frames = read_video(clip.video, fps, start_frame=start_frame, max_frames=most, trim=True).frames
        if clip.box is None:
            return frames
        height, width = frames.shape[1:3]
        left, right = (round(edge * width) for edge in clip.box[::2])
        top, bottom = (round(edge * height) for edge in clip.box[1::2])
        return frames[:, top : max(bottom, top + 1), left : max(right, left + 1)]


def open_given_set(path: Path, timing: ClipTiming, with_video: bool = True) -> GivenSet | None:
    """Returns the set that a list or a folder holds; None where it holds none.

    Raises DataError as `find_given_clips` does, where no file of a list is there, or where nothing is transcribed.
    """
    clips = find_given_clips(path)
    if not clips:
        return None
    there = [clip for clip in clips if not clip.problem]
    if not there:
        raise DataError(
            f"none of the {len(clips)} clips of {path} is on this disk; first: {clips[0].origin} {clips[0].problem}"
        )
    if not any(clip.text for clip in there):
        raise DataError(
            f"{path} gives no transcript of its {len(there)} clips; make clips with transcripts of it by `uniavgen "
            "data run` and `pack`, or put NAME.txt beside each video"
        )
    return GivenSet(clips={clip.key: clip for clip in clips}, timing=timing, with_video=with_video)


def _placed(clip: GivenClip, start_s: float) -> tuple[Word, ...]:
    """Returns the words of a clip in its own time."""
    return tuple(_shifted(clip.words, start_s, math.inf if clip.end_s is None else clip.end_s))


def _shifted(words: Sequence[Word], start_s: float, end_s: float) -> Iterator[Word]:
    for word in words:
        if start_s <= (word.start_s + word.end_s) / 2 < end_s:
            yield Word(text=word.text, start_s=max(word.start_s - start_s, 0.0), end_s=min(word.end_s, end_s) - start_s)
