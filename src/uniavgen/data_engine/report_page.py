"""report.html of a work folder: its numbers, and clips to watch, drawn from what is kept and from what is dropped."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from uniavgen.config import dump
from uniavgen.data_engine.decisions import Decision, Decisions, DroppedSource
from uniavgen.data_engine.pack import CAPTION
from uniavgen.data_engine.preview import PreviewSpan, cut_preview
from uniavgen.data_engine.report import ReportData, reasons_of
from uniavgen.data_engine.rules import score_values
from uniavgen.data_engine.windows import TRANSCRIPT, spoken_words
from uniavgen.errors import MediaError
from uniavgen.html_report.page import PageSource, write_page

PAGE_FILE: Final = "report.html"
NUM_CLIPS: Final = 24
"""Drawn from what is kept, and as many from what is dropped."""
_PAGE: Final = PageSource(folder=resources.files("uniavgen.data_engine") / "html", name="report")
_DIGITS: Final = 4
Drawn = TypeVar("Drawn")


@dataclass(frozen=True, kw_only=True)
class _ShownClip:
    """A row of the table of clips, and what is played of it."""

    facts: dict[str, Any]
    span: PreviewSpan


def write_data_page(
    report: ReportData,
    path: Path,
    title: str,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Writes the page, and returns how many clips it shows. The same records, rules and seed give the same bytes.

    A clip whose source cannot be read any more is a row that says so.
    """
    clips = _draw(report.decisions, report, seed)
    files: dict[str, Path] = {}
    with TemporaryDirectory(prefix="uniavgen-report-") as folder:
        on_progress(0, len(clips))
        for done, clip in enumerate(clips, start=1):
            key = clip.facts["key"]
            try:
                content = cut_preview(clip.span)
            except MediaError as error:
                clip.facts["problem"] = str(error)
            else:
                files[key] = Path(folder) / f"{key}.mp4"
                files[key].write_bytes(content)
            on_progress(done, len(clips))
        data = {
            "title": title,
            "numbers": report.numbers(),
            "rules": dump(report.rules),
            "clips": [clip.facts for clip in clips],
        }
        write_page(path, _PAGE, title, data, files)
    return len(clips)


def _draw(decisions: Decisions, report: ReportData, seed: int) -> list[_ShownClip]:
    """Returns clips by chance; dropped are candidates and, the whole of it, sources without any."""
    chance = random.Random(seed)
    kept = [each for each in decisions.candidates if each.is_kept]
    dropped = [each for each in decisions.candidates if not each.is_kept]
    pool: list[Decision | DroppedSource] = [*dropped, *decisions.sources]
    shown: list[Decision | DroppedSource] = [*_drawn(kept, chance), *_drawn(pool, chance)]
    return [_of_candidate(each, report) if isinstance(each, Decision) else _of_source(each) for each in shown]


def _drawn(pool: Sequence[Drawn], chance: random.Random) -> list[Drawn]:
    """Returns up to NUM_CLIPS of the pool, in its order."""
    places = sorted(chance.sample(range(len(pool)), min(NUM_CLIPS, len(pool))))
    return [pool[place] for place in places]


def _of_candidate(decision: Decision, report: ReportData) -> _ShownClip:
    candidate = decision.candidate
    words = [
        word.text.strip()
        for word in spoken_words(candidate)
        if candidate.start_s <= (word.start_s + word.end_s) / 2 < candidate.end_s
    ]
    scores = score_values(report.rules, candidate)
    facts = {
        "key": candidate.key,
        "kept": decision.is_kept,
        "source": candidate.source.path.name,
        "start_s": round(candidate.start_s, 2),
        "end_s": round(candidate.end_s, 2),
        "num_clips": len(decision.windows),
        "person": decision.person,
        "language": str(candidate.source_value(TRANSCRIPT, "language") or ""),
        "text": " ".join(words),
        "caption": str(candidate.score(CAPTION, "text") or ""),
        "licence": candidate.source.rights.licence,
        "reasons": reasons_of(decision),
        "scores": {name: _rounded(value) for name, value in scores.items()},
    }
    return _ShownClip(facts=facts, span=PreviewSpan.of(candidate))


def _of_source(dropped: DroppedSource) -> _ShownClip:
    facts = {
        "key": dropped.source.key,
        "kept": False,
        "source": dropped.source.path.name,
        "licence": dropped.source.rights.licence,
        "reasons": [{"rule": "no candidate", "reason": dropped.reason}],
        "scores": {},
    }
    return _ShownClip(facts=facts, span=PreviewSpan(source=dropped.source))


def _rounded(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value
