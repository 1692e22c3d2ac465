"""What can only be said over all sources: who talks, and which candidates show the same thing. Embeddings stay here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float

from uniavgen.data_engine.candidates import Candidate
from uniavgen.data_engine.duplicates import DuplicatesConfig, SegmentContent, find_duplicates
from uniavgen.data_engine.persons import PersonEvidence, PersonsConfig, group_persons
from uniavgen.data_engine.windows import spoken_words

PersonGrouping = Callable[[Sequence[Candidate]], Sequence[str]]
"""Returns a name for the person of each candidate, which follows from the candidates alone."""
DuplicateSearch = Callable[[Sequence[Candidate]], Mapping[str, str]]
"""Returns the keys of candidates that repeat another one, with that one's key."""
VOICE, FACE, HASHES = "speaker", "face_identity", "hashes"
"""Stages."""
EMBEDDING: Final = "embedding"
"""Array of the first two, a row for each segment; zeros where there is none."""


def persons_of(candidates: Sequence[Candidate], settings: PersonsConfig = PersonsConfig()) -> list[str]:  # noqa: B008
    """Names persons after their first candidate in the order of keys; one of whom nothing is known is nobody else."""
    by_source: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_source.setdefault(candidate.source.key, []).append(candidate)
    widths = {stage: max((_width(stage, same[0]) for same in by_source.values()), default=1) for stage in (VOICE, FACE)}
    evidence = {
        key: PersonEvidence(
            voices=_embeddings(VOICE, same, widths[VOICE]),
            faces=_embeddings(FACE, same, widths[FACE]),
        )
        for key, same in by_source.items()
    }
    groups = group_persons(evidence, settings)
    numbers = {
        candidate.key: int(number)
        for key, same in by_source.items()
        for candidate, number in zip(same, groups[key], strict=True)
    }
    first: dict[int, str] = {}
    for key in sorted(numbers):
        first.setdefault(numbers[key], key)
    return [
        f"person-{candidate.key if numbers[candidate.key] < 0 else first[numbers[candidate.key]]}"
        for candidate in candidates
    ]


def duplicates_of(
    candidates: Sequence[Candidate],
    settings: DuplicatesConfig = DuplicatesConfig(),  # noqa: B008
) -> dict[str, str]:
    """Finds candidates with the words and the pictures of an earlier one, in the order of keys."""
    places = {(candidate.source.key, candidate.index): candidate for candidate in candidates}
    found = find_duplicates({place: candidate_content(each) for place, each in places.items()}, settings)
    return {places[place].key: places[other].key for place, other in found.items()}


def candidate_content(candidate: Candidate) -> SegmentContent:
    """Returns what is seen and said in a candidate."""
    return SegmentContent(hashes=_hashes(candidate), words=_words(candidate))


def _width(stage: str, candidate: Candidate) -> int:
    """Returns the numbers of an embedding; 1 where the source has none."""
    output = candidate.outputs.get(stage)
    return 1 if output is None or output.reason else output.arrays[EMBEDDING].shape[1]


def _embeddings(stage: str, same: Sequence[Candidate], width: int) -> Float[np.ndarray, "n d"]:
    """Returns the embeddings of the candidates of one source; rows of zeros where there are none."""
    output = same[0].outputs.get(stage)
    if output is None or output.reason:
        return np.zeros((len(same), width), np.float32)
    return output.arrays[EMBEDDING][[candidate.index for candidate in same]]


def _hashes(candidate: Candidate) -> Sequence[str]:
    rows = candidate.source_value(HASHES, "segments")
    return rows[candidate.index] if rows else ()


def _words(candidate: Candidate) -> list[str]:
    return [
        word.text
        for word in spoken_words(candidate)
        if candidate.start_s <= (word.start_s + word.end_s) / 2 < candidate.end_s
    ]


GROUP_PERSONS: Final[PersonGrouping] = persons_of
FIND_DUPLICATES: Final[DuplicateSearch] = duplicates_of
