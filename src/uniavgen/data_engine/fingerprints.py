"""What is kept of a forgotten source, so that a copy of it in another file is known: no word, no picture, no embedding.

A copy is found as duplicates are, by the same words over the same pictures. The words are kept as checksums of runs,
the pictures as perceptual hashes.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from uniavgen.data_engine.candidates import Candidate, find_candidates
from uniavgen.data_engine.corpus import candidate_content
from uniavgen.data_engine.duplicates import DuplicatesConfig, are_alike, word_runs
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import StageOutput


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Of a segment."""

    hashes: Sequence[str]
    """Perceptual hashes of some frames."""
    runs: Sequence[str]
    """SHA-256 of each run of words, in order."""


def fingerprints(source: SourceVideo, outputs: Mapping[str, StageOutput]) -> list[Fingerprint]:
    """Returns the fingerprints of the segments of a source that have pictures and a run of words, as recorded."""
    found = [_fingerprint(candidate) for candidate in find_candidates(source, outputs)]
    return [each for each in found if each.hashes and each.runs]


def has_copy(
    segments: Iterable[Fingerprint],
    forgotten: Sequence[Fingerprint],
    settings: DuplicatesConfig = DuplicatesConfig(),  # noqa: B008
) -> bool:
    """Returns whether one of the segments repeats a forgotten one."""
    return any(_is_copy(segment, each, settings) for segment in segments for each in forgotten)


def _fingerprint(candidate: Candidate) -> Fingerprint:
    content = candidate_content(candidate)
    runs = word_runs(content.words, DuplicatesConfig().run)
    checksums = sorted(hashlib.sha256(" ".join(run).encode()).hexdigest()[:32] for run in runs)
    return Fingerprint(hashes=tuple(content.hashes), runs=tuple(checksums))


def _is_copy(a: Fingerprint, b: Fingerprint, settings: DuplicatesConfig) -> bool:
    shared = len({*a.runs} & {*b.runs}) / min(len(a.runs), len(b.runs))
    return shared >= settings.min_shared_words and are_alike(a.hashes, b.hashes, settings.max_bits)
