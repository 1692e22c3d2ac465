"""What can only be said over all sources: who talks, and which candidates show the same thing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from uniavgen.data_engine.candidates import Candidate

PersonGrouping = Callable[[Sequence[Candidate]], Sequence[str]]
"""Returns a name for the person of each candidate; the names follow from the candidates alone, in any order."""
DuplicateSearch = Callable[[Sequence[Candidate]], Mapping[str, str]]
"""Returns the keys of candidates that repeat another one, with that one's key."""


def person_of_source(candidates: Sequence[Candidate]) -> list[str]:
    """Takes each source for one person of its own."""
    return [f"person-{candidate.source.key[:16]}" for candidate in candidates]


def no_duplicates(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Finds nothing."""
    del candidates
    return {}


GROUP_PERSONS: Final[PersonGrouping] = person_of_source
FIND_DUPLICATES: Final[DuplicateSearch] = no_duplicates
