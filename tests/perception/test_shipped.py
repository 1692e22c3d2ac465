"""The networks in the package on a drawn head whose offset is known, and as metrics."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import MetricContext
from uniavgen.evaluation.metrics.sync import OwnLipSync
from uniavgen.evaluation.metrics.traits import TraitConsistency
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_tracker import FaceTracker
from uniavgen.perception.loading import shipped_weights
from uniavgen.perception.traits import VoiceTraitClassifier

from .cartoon import FPS, talking_head, voice

PROMPT = Prompt(id="a")


@pytest.fixture(scope="module")
def traits() -> TraitConsistency:
    return TraitConsistency(MetricContext())


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return talking_head()


def clip(frames: np.ndarray, waveform: np.ndarray | None) -> DecodedClip:
    return DecodedClip(path=Path("a.mp4"), frames=frames, fps=Fraction(FPS), waveform=waveform)


def test_shipped_weights_are_small():
    names = ("face_locator", "face_reader", "sync_reader", "voice_reader")
    assert sum(shipped_weights(name).stat().st_size for name in names) < 3_000_000


def test_shipped_lip_sync_encoder_measures_a_planted_offset(frames):
    metric = OwnLipSync(MetricContext())
    for late_ms in (-200, 0, 200):
        scores = metric.measure(clip(frames, voice(late_s=late_ms / 1000)), PROMPT).scores
        assert scores["lips_offset_ms"] == pytest.approx(-late_ms, abs=80)
        assert scores["lips_error_ms"] == abs(scores["lips_offset_ms"])


def test_lip_sync_confidence_drops_for_another_voice(frames):
    metric = OwnLipSync(MetricContext())
    own, strange = (metric.measure(clip(frames, voice(seed=seed)), PROMPT).scores for seed in (0, 5))
    assert own["lips_confidence"] > strange["lips_confidence"]
    assert own["lips_distance"] < strange["lips_distance"]


def test_readers_are_deterministic(frames, traits):
    for metric in (OwnLipSync(MetricContext()), traits):
        measured, again = (metric.measure(clip(frames, voice()), PROMPT) for _ in range(2))
        assert measured == again
        assert {*measured.scores, *measured.reasons} == {column.name for column in metric.columns}


def test_voice_traits_need_no_face():
    traits = VoiceTraitClassifier.load().predict(voice())
    assert 0 <= traits.male <= 1
    assert traits.ages.sum() == pytest.approx(1)
    assert traits.emotions.sum() == pytest.approx(1)


def test_face_tracker_runs_once_per_clip(frames):
    tracker = FaceTracker()
    assert tracker.track(frames, float(FPS)) is tracker.track(frames, float(FPS))


@pytest.mark.parametrize("own", [True, False])
def test_clips_whose_traits_cannot_be_read_have_a_reason(own, frames, traits):
    metric = OwnLipSync(MetricContext()) if own else traits
    with pytest.raises(NotMeasured, match="no sound track"):
        metric.measure(clip(frames, None), PROMPT)
    with pytest.raises(NotMeasured, match="silent"):
        metric.measure(clip(frames, np.zeros(64_000, np.float32)), PROMPT)
    with pytest.raises(NotMeasured, match="no face is seen"):
        metric.measure(clip(np.full_like(frames, 90), voice()), PROMPT)
