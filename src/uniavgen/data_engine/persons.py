"""Person groups: which segments, of whatever sources, show and let hear the same person.

Voice and face vote together, so that a dubbed face or a voice behind another face is nobody's double. First the
segments of a source are grouped, then the groups of all sources, both by average linkage, in the order of their keys:
the result follows from the embeddings alone.

Letters: n items, d numbers of an embedding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage

from uniavgen.config import Config
from uniavgen.config.values import Positive


@dataclass(frozen=True, kw_only=True)
class PersonsConfig(Config):
    """Settings of `group_persons`."""

    voice_distance: Positive = 0.4
    """1 - cosine of two voices at which they are as likely one as two. [ours, measured]"""
    face_distance: Positive = 0.08
    """The same for two faces. [ours, measured]"""


@dataclass(frozen=True, kw_only=True)
class PersonEvidence:
    """What is known of the people in a source's segments; rows of zeros where there is nothing."""

    voices: Float[np.ndarray, "n d"]
    faces: Float[np.ndarray, "n d2"]

    def __post_init__(self) -> None:
        if len(self.voices) != len(self.faces):
            raise ValueError(f"{len(self.voices)} voices, {len(self.faces)} faces")


def group_persons(sources: Mapping[str, PersonEvidence], settings: PersonsConfig) -> dict[str, Int[np.ndarray, " n"]]:
    """Returns, for each source by its key, the number of each segment's person; -1 where nothing is known of it.

    Persons are numbered by their first segment. Memory grows with the square of the number of people in all sources:
    20,000 need 1.6 GB.
    """
    keys = sorted(sources)
    local = {key: _clusters(sources[key], settings) for key in keys}
    places = [(key, label) for key in keys for label in range(int(local[key].max(initial=-1)) + 1)]
    if not places:
        return local
    members = [local[key] == label for key, label in places]
    means = PersonEvidence(
        voices=np.stack([_mean(sources[key].voices[rows]) for (key, _), rows in zip(places, members, strict=True)]),
        faces=np.stack([_mean(sources[key].faces[rows]) for (key, _), rows in zip(places, members, strict=True)]),
    )
    everywhere = dict(zip(places, _clusters(means, settings).tolist(), strict=True))
    numbers: dict[int, int] = {}
    groups = {}
    for key in keys:
        labels = [everywhere[key, label] if label >= 0 else -1 for label in local[key].tolist()]
        groups[key] = np.array(
            [numbers.setdefault(label, len(numbers)) if label >= 0 else -1 for label in labels], np.int64
        )
    return groups


def _clusters(evidence: PersonEvidence, settings: PersonsConfig) -> Int[np.ndarray, " n"]:
    """Returns clusters of average linkage, numbered by their first row; -1 where nothing is known."""
    known = np.flatnonzero((np.abs(evidence.voices).sum(axis=1) > 0) | (np.abs(evidence.faces).sum(axis=1) > 0))
    labels = np.full(len(evidence.voices), -1, np.int64)
    if len(known) == 1:
        labels[known] = 0
    if len(known) > 1:
        distances = np.concatenate(list(_condensed(evidence, known, settings)))
        found = fcluster(linkage(distances, "average"), 1.0, "distance")
        order: dict[int, int] = {}
        labels[known] = [order.setdefault(int(label), len(order)) for label in found]
    return labels


def _condensed(
    evidence: PersonEvidence, rows: Int[np.ndarray, " n"], settings: PersonsConfig
) -> Iterator[Float[np.ndarray, " pairs"]]:
    """Yields distances of each row to all later ones: mean over voice and face of distance over its threshold.

    Where one of the two is missing the other decides; where they have nothing in common they are far apart.
    """
    scaled = [
        (table[rows], np.abs(table[rows]).sum(axis=1) > 0, threshold)
        for table, threshold in (
            (evidence.voices, settings.voice_distance),
            (evidence.faces, settings.face_distance),
        )
    ]
    for index in range(len(rows) - 1):
        total, count = np.zeros(len(rows) - index - 1), np.zeros(len(rows) - index - 1)
        for vectors, known, threshold in scaled:
            both = known[index] & known[index + 1 :]
            # Rounding puts equal vectors a little below 0, which linkage refuses.
            total += both * np.maximum(1 - vectors[index + 1 :] @ vectors[index], 0) / threshold
            count += both
        yield np.where(count > 0, total / np.maximum(count, 1), 2.0)


def _mean(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """Returns the unit vector in the middle of those that are not zero; zeros without any."""
    total = vectors.sum(axis=0)
    length = np.linalg.norm(total)
    return total / length if length > 0 else total
