"""Person groups: those that were planted are found, in any order of sources, and voice and face decide together."""

import numpy as np
import pytest

from uniavgen.data_engine.persons import PersonEvidence, PersonsConfig, group_persons

NUM_VOICE, NUM_FACE = 192, 128
SETTINGS = PersonsConfig()


def pairwise_f1(found, true):
    """Returns the F1 score over all pairs: whether two belong together; 1 where no pair does in either."""
    upper = np.triu_indices(len(found), 1)
    joined, same = (found[:, None] == found)[upper], (true[:, None] == true)[upper]
    total = joined.sum() + same.sum()
    return 1.0 if total == 0 else 2 * (joined & same).sum() / total


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _near(centre, cosine, rng):
    """A unit vector with this cosine to a centre."""
    away = rng.normal(size=centre.shape)
    away = _unit(away - (away @ centre) * centre)
    return cosine * centre + np.sqrt(1 - cosine**2) * away


@pytest.fixture
def people():
    """Five sources of eight segments with three people each out of six; voices of one person have cosines of 0.7."""
    rng = np.random.default_rng(0)
    voices = _unit(rng.normal(size=(6, NUM_VOICE)))
    # Faces of dlib all look one way, so those of two people are near, too.
    faces = _unit(3 * _unit(rng.normal(size=NUM_FACE)) + _unit(rng.normal(size=(6, NUM_FACE))))
    sources, truth = {}, {}
    for number in range(5):
        truth[f"key{number}"] = rng.permutation(6)[:3][rng.integers(0, 3, 8)]
        sources[f"key{number}"] = PersonEvidence(
            voices=np.stack([_near(voices[p], 0.84, rng) for p in truth[f"key{number}"]]),
            faces=np.stack([_near(faces[p], 0.985, rng) for p in truth[f"key{number}"]]),
        )
    return sources, truth


def test_people_are_found_across_sources_in_whatever_order(people):
    sources, truth = people
    groups = group_persons(sources, SETTINGS)
    found = np.concatenate([groups[key] for key in sorted(sources)])
    assert pairwise_f1(found, np.concatenate([truth[key] for key in sorted(sources)])) >= 0.95
    again = group_persons(dict(reversed(sources.items())), SETTINGS)
    assert all(np.array_equal(groups[key], again[key]) for key in sources)
    assert found[0] == 0


def test_one_of_voice_and_face_is_enough_and_none_is_nobody(people):
    sources, truth = people
    voices = sources["key0"].voices.copy()
    voices[:3] = 0
    faces = sources["key0"].faces.copy()
    faces[2:5] = 0
    groups = group_persons({"a": PersonEvidence(voices=voices, faces=faces)}, SETTINGS)["a"]
    assert groups[2] == -1
    assert (groups[[0, 1, 3, 4, 5, 6, 7]] >= 0).all()
    known = groups >= 0
    assert pairwise_f1(groups[known][2:], truth["key0"][known][2:]) >= 0.9


def test_same_face_with_another_voice_is_another_person(people):
    sources, _ = people
    rng = np.random.default_rng(1)
    face = sources["key0"].faces[:1].repeat(4, axis=0)
    voices = np.stack([_near(v, 0.9, rng) for v in _unit(rng.normal(size=(2, NUM_VOICE))).repeat(2, axis=0)])
    groups = group_persons({"a": PersonEvidence(voices=voices, faces=face)}, PersonsConfig(voice_distance=0.3))["a"]
    assert groups.tolist() == [0, 0, 1, 1]


def test_nothing_has_no_groups():
    nobody = PersonEvidence(voices=np.zeros((2, NUM_VOICE)), faces=np.zeros((2, NUM_FACE)))
    nothing = PersonEvidence(voices=np.zeros((0, NUM_VOICE)), faces=np.zeros((0, NUM_FACE)))
    groups = group_persons({"a": nobody, "b": nothing}, SETTINGS)
    assert (groups["a"].tolist(), groups["b"].tolist()) == ([-1, -1], [])


@pytest.mark.parametrize(
    ("found", "true", "score"),
    [([0, 0, 1], [5, 5, 6], 1.0), ([0, 1, 2], [0, 0, 0], 0.0), ([0, 0, 0], [0, 0, 1], 0.5), ([0, 1], [0, 1], 1.0)],
)
def test_pairwise_f1_counts_pairs(found, true, score):
    assert pairwise_f1(np.array(found), np.array(true)) == pytest.approx(score)
