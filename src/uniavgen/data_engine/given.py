"""What is said of sources beside them: rights, transcripts and clips of other people's lists, read again each time."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from uniavgen.data.given_clip import GivenClip
from uniavgen.data.given_sets import given_of_video, transcripts_beside
from uniavgen.data.given_tables import read_table
from uniavgen.data_engine.rights import Rights, RightsReader


class GivenReader:
    """Reads what lists and the files beside a video say of it; a list goes first, and is read once."""

    def __init__(self, tables: Sequence[Path]) -> None:
        self._tables = tables
        self._rights = RightsReader()

    @cached_property
    def clips(self) -> list[GivenClip]:
        """Returns the clips of all lists in order. Raises DataError where one is damaged."""
        return [clip for table in self._tables for clip in read_table(table)]

    @property
    def files(self) -> list[Path]:
        """Returns the videos that lists name, each once."""
        return list(self._by_file)

    def read(self, file: Path) -> tuple[Rights, tuple[GivenClip, ...]]:
        """Returns the rights in a video, by its absolute path, and what is given of it.

        Raises DataError or ConfigError where a file that says so is damaged.
        """
        listed = self._by_file.get(file, [])
        rows = [Rights.of(clip.facts, clip.origin) for clip in listed if _tells_rights(clip)]
        # Where one row refuses the video, others do not allow it.
        rights = next((each for each in rows if each.opt_out != "no" or each.consent == "no"), None)
        beside = self._rights.read(file)
        if not rows or beside.opt_out != "no":
            rights = beside
        return rights or rows[0], tuple(listed) or self._beside(file)

    @cached_property
    def _by_file(self) -> dict[Path, list[GivenClip]]:
        files: dict[Path, list[GivenClip]] = {}
        for clip in self.clips:
            if clip.video is not None and not clip.problem:
                files.setdefault(clip.video.absolute(), []).append(clip)
        return files

    def _beside(self, file: Path) -> tuple[GivenClip, ...]:
        transcripts = transcripts_beside(file)
        clip = given_of_video(file, file.parent, transcripts)
        return (clip,) if clip.text or clip.caption or clip.speaker else ()


def _tells_rights(clip: GivenClip) -> bool:
    return not {*clip.facts}.isdisjoint(Rights.__annotations__)


def given_at(clips: Sequence[GivenClip], start_s: float, end_s: float) -> GivenClip | None:
    """Returns the clip that lies on most of a stretch of its source, at least on half of it."""
    shares = [(_shared_s(clip, start_s, end_s), -number) for number, clip in enumerate(clips)]
    most, number = max(shares, default=(0.0, 0))
    return clips[-number] if most > 0 and 2 * most >= end_s - start_s else None


def _shared_s(clip: GivenClip, start_s: float, end_s: float) -> float:
    return (end_s if clip.end_s is None else min(end_s, clip.end_s)) - max(start_s, clip.start_s)
