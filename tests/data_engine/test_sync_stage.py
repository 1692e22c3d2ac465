"""The offset of a source: planted ones are found, and segments with another's voice agree less.

Faces are followed by the shipped locator, lips read by the shipped reader.
"""

import numpy as np
import pytest
from tests.data_engine.talking_films import CLIPS, FPS, clip_sound, write_talking

from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.segment import SpeechSegment
from uniavgen.data_engine.stage import StageContext, StageOutput
from uniavgen.data_engine.stages.sync import SyncConfig, SyncStage, best_shift, sync_output
from uniavgen.perception.lip_sync import MAX_SHIFT

CLIP_S = 81 / FPS
SETTINGS = SyncConfig()


def _inputs(count):
    """A segment in each clip, whose face fills the picture."""
    segments = [
        SpeechSegment(
            start_s=float(index * CLIP_S), end_s=float((index + 1) * CLIP_S), shot=index, track=index, num_faces=1,
            face_share=1.0, speech_share=0.5, mouth_movement=0.1, mouth_loudness=0.5,
        )
        for index in range(count)
    ]  # fmt: skip
    boxes = FaceBoxes(
        shots=np.arange(count),
        track=np.arange(count),
        time_s=np.array([segment.start_s + 1 for segment in segments]),
        box=np.tile([0.2, 0.2, 0.8, 0.8], (count, 1)),
        is_confirmed=np.ones(count, bool),
        mouth_opening=np.zeros(count),
    )
    return {
        "segments": StageOutput(values={"segments": [segment.values() for segment in segments]}),
        "faces": StageOutput(arrays=boxes.arrays()),
    }


@pytest.fixture(scope="module")
def stage():
    stage = SyncStage(SETTINGS, StageContext())
    stage.setup()
    return stage


@pytest.mark.parametrize("late_ms", [-240, -80, 160])
def test_planted_offset_of_a_source_is_found(stage, tmp_path, late_ms):
    output = stage(write_talking(tmp_path / "a.mp4", CLIPS, late_ms=late_ms), _inputs(len(CLIPS)))
    assert output.values["offset_ms"] == pytest.approx(-late_ms, abs=80)
    assert output.values["measured_s"] == pytest.approx(len(CLIPS) * float(CLIP_S), abs=0.1)
    assert output.arrays["distances"].shape == (len(CLIPS), 2 * MAX_SHIFT + 1)


def test_swapped_voices_agree_less(stage, tmp_path):
    sounds = [clip_sound(clip) for clip in CLIPS]
    inputs = _inputs(len(CLIPS))
    matching = stage(write_talking(tmp_path / "own.mp4", CLIPS, sounds), inputs).values
    other = stage(write_talking(tmp_path / "other.mp4", CLIPS, sounds[1:] + sounds[:1]), inputs).values
    mean = [np.mean([row["agreement"] for row in values["segments"]]) for values in (matching, other)]
    assert mean[1] < 0.5 * mean[0]
    assert other["confidence"] < 0.7 * matching["confidence"]


def test_segment_without_a_face_has_a_reason_and_others_are_measured(stage, tmp_path):
    inputs = _inputs(2)
    boxes = FaceBoxes.of(inputs["faces"].arrays)
    first = FaceBoxes.of({**boxes.arrays(), "track": np.array([0, 7])})
    output = stage(write_talking(tmp_path / "a.mp4", CLIPS[:2]), inputs | {"faces": StageOutput(arrays=first.arrays())})
    assert output.values["segments"][1] == {"reason": "the face is nowhere to be seen"}
    assert "agreement" in output.values["segments"][0]
    assert np.isnan(output.arrays["distances"][1]).all()


def _curve(offset_ms, depth=0.2, seed=0):
    """Distances with noise and a dip at an offset."""
    offsets = -20 * np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    noise = np.random.default_rng(seed).normal(0, 0.02, len(offsets))
    return (1.2 + noise - depth * np.exp(-(((offsets - offset_ms) / 40) ** 2))).astype(np.float32)


def test_offset_of_noisy_segments_comes_out_of_their_mean():
    curves = [_curve(160, 0.06, seed) for seed in range(12)]
    output = sync_output(curves, [5.0] * 12, SETTINGS)
    assert output.values["offset_ms"] == pytest.approx(160, abs=20)
    alone = [row["offset_ms"] for row in output.values["segments"]]
    assert max(abs(offset - 160) for offset in alone) > abs(output.values["offset_ms"] - 160)


def test_segment_with_another_offset_than_its_source_agrees_less():
    output = sync_output([_curve(80)] * 4 + [_curve(-200)], [5.0] * 5, SETTINGS)
    *others, last = output.values["segments"]
    assert min(row["agreement"] for row in others) > 0.15 > 0.1 > last["agreement"]
    assert last["offset_ms"] == pytest.approx(-200, abs=15)


def test_offsets_beyond_the_largest_are_not_looked_for():
    offset_ms, _ = best_shift(_curve(400), 0.0, 240.0)
    assert abs(offset_ms) <= 250


def test_source_without_a_measured_segment_has_no_offset():
    for curves in ([], ["no face is seen"]):
        output = sync_output(curves, [2.0] * len(curves), SETTINGS)
        assert output.values["offset_ms"] is None
        assert len(output.values["segments"]) == len(curves)
