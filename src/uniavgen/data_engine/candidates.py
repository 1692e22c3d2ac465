"""Candidate clips: what the stage `segments` found in a source, with everything that stages say of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from uniavgen.data.given_clip import GivenClip
from uniavgen.data_engine.given import given_at
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import StageOutput

SEGMENTS: Final = "segments"
"""The stage, and the name of the list of mappings (start_s, end_s, ...) in its values. Stages behind it give a list of
mappings of scores of this name and length; other values are those of the whole source."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A stretch of a source in which one visible person seems to talk."""

    source: SourceVideo
    index: int
    """Its number in the source."""
    start_s: float
    end_s: float
    """Presentation time of the pictures."""
    outputs: Mapping[str, StageOutput] = field(repr=False)
    """Of all stages, for the source."""

    @property
    def key(self) -> str:
        """Returns what tells it from all candidates."""
        return f"{self.source.key}-{self.index:05d}"

    def score(self, stage: str, name: str) -> Any:
        """Returns the value of this candidate, or that of its source where a stage gives only one; None without."""
        row = self._row(stage)
        return row[name] if name in row else self.source_value(stage, name)

    def source_value(self, stage: str, name: str) -> Any:
        """Returns what a stage says of the whole source; None where it says nothing."""
        output = self.outputs.get(stage)
        return None if output is None or output.reason else output.values.get(name)

    @property
    def given(self) -> GivenClip | None:
        """Returns what a list, or files beside the source, say of this stretch."""
        return given_at(self.source.given, self.start_s, self.end_s)

    def reason(self, stage: str) -> str:
        """Returns why a stage could not measure this candidate; nothing where it could."""
        output = self.outputs.get(stage)
        return "" if output is None else output.reason or str(self._row(stage).get("reason") or "")

    def _row(self, stage: str) -> Mapping[str, Any]:
        rows = self.source_value(stage, SEGMENTS)
        row = rows[self.index] if rows else {}
        return row if isinstance(row, Mapping) else {}


def find_candidates(source: SourceVideo, outputs: Mapping[str, StageOutput]) -> list[Candidate]:
    """Returns the candidates of a source in order; none where its segments could not be computed."""
    output = outputs.get(SEGMENTS)
    rows: Sequence[Mapping[str, Any]] = [] if output is None or output.reason else output.values[SEGMENTS]
    return [
        Candidate(source=source, index=index, start_s=row["start_s"], end_s=row["end_s"], outputs=outputs)
        for index, row in enumerate(rows)
    ]
