"""The networks in the package on a drawn head whose offset is known, and as metrics."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.metrics.sync import Sync
from uniavgen.evaluation.metrics.traits import TraitConsistency
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.readers.places import FacePlaces
from uniavgen.evaluation.readers.storing import shipped

from .cartoon import FPS, talking_head, voice

PROMPT = Prompt(id="a")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return talking_head()


def clip(frames: np.ndarray, waveform: np.ndarray | None) -> Clip:
    return Clip(prompt=PROMPT, path=Path("a.mp4"), frames=frames, fps=Fraction(FPS), waveform=waveform)


def test_the_package_stays_small():
    names = ("face_locator", "sync_reader", "face_reader", "voice_reader")
    assert sum(shipped(name).stat().st_size for name in names) < 2_000_000


def test_a_planted_offset_is_found(frames):
    metric = Sync(FacePlaces())
    for late_ms in (-200, 0, 200):
        found = metric.measure(clip(frames, voice(late_s=late_ms / 1000)), PROMPT).scores
        assert found["lips_offset_ms"] == pytest.approx(-late_ms, abs=80)
        assert found["lips_error_ms"] == abs(found["lips_offset_ms"])


def test_a_strange_voice_is_less_sure(frames):
    metric = Sync(FacePlaces())
    own, strange = (metric.measure(clip(frames, voice(seed=seed)), PROMPT).scores for seed in (0, 5))
    assert own["lips_confidence"] > strange["lips_confidence"]
    assert own["lips_distance"] < strange["lips_distance"]


def test_the_same_clip_gives_the_same_numbers(frames):
    for metric, again in ((Sync(FacePlaces()), Sync(FacePlaces())), (TraitConsistency(FacePlaces()),) * 2):
        spoken = clip(frames, voice())
        assert metric.measure(spoken, PROMPT) == again.measure(spoken, PROMPT)
        assert set(metric.measure(spoken, PROMPT).scores) == {column.name for column in metric.columns}


def test_a_face_is_looked_for_once_a_clip(frames):
    places, spoken = FacePlaces(), clip(frames, voice())
    assert places.find(spoken) is places.find(spoken)


@pytest.mark.parametrize("metric", [Sync(FacePlaces()), TraitConsistency(FacePlaces())])
def test_what_cannot_be_read_is_a_reason(metric, frames):
    with pytest.raises(NotMeasured, match="no sound track"):
        metric.measure(clip(frames, None), PROMPT)
    with pytest.raises(NotMeasured, match="silent"):
        metric.measure(clip(frames, np.zeros(64_000, np.float32)), PROMPT)
    with pytest.raises(NotMeasured, match="no face is seen"):
        metric.measure(clip(np.full_like(frames, 90), voice()), PROMPT)
