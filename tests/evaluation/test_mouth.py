"""The mouth reader and the comparison of curves."""

import numpy as np
import pytest

from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.perception.errors import NotMeasured
from uniavgen.evaluation.metrics.mouth import MouthAgainstTruth
from uniavgen.evaluation.mouth import ROOM, SIDE_PX, FaceSquare, MouthReader, correlation, spoken_span
from uniavgen.evaluation.mouth_training import (
    FrameSet,
    MouthTrainingConfig,
    held_out_correlation,
    train_mouth_reader,
)
from uniavgen.evaluation.prompts import Prompt

from .builders import clip_of, prompt_of, truth_clip


def test_correlation_ignores_scale_and_offset_and_is_minus_one_for_the_opposite():
    curve = np.array([0.0, 1.0, 0.5, 0.2], np.float32)
    assert correlation(3 * curve + 2, curve) == pytest.approx(1)
    assert correlation(-curve, curve) == pytest.approx(-1)


def test_a_mouth_that_never_moves_follows_nothing():
    still, moving = np.zeros(4, np.float32), np.array([0, 1, 0, 1], np.float32)
    assert correlation(still, moving) == 0
    with pytest.raises(NotMeasured, match="never moves"):
        correlation(moving, still)


def test_correlation_equals_numpys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50)).astype(np.float32)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)


def test_the_square_surrounds_the_face_and_holds_for_any_size():
    mask = np.zeros((2, 40, 80), bool)
    mask[1, 10:30, 20:30] = True
    where = FaceSquare.of(mask)
    assert (where.x, where.y) == (25 / 80, 20 / 40)
    assert (where.width * 80, where.height * 40) == pytest.approx((ROOM * 20, ROOM * 20))
    small = np.zeros((1, 40, 80, 3), np.uint8)
    small[:, 10:30, 15:35] = 255
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    assert where.cut(small).shape == where.cut(large).shape == (1, 3, SIDE_PX, SIDE_PX)
    assert where.cut(small)[0, :, SIDE_PX // 2, SIDE_PX // 2].tolist() == [1, 1, 1]
    assert where.cut(small)[0, :, 2, 2].tolist() == [-1, -1, -1]
    assert (where.cut(small) - where.cut(large)).abs().mean() < 0.1


def test_silence_before_and_after_speech_does_not_count():
    truth = np.array([0, 0, 0.05, 0.8, 0.02, 1.0, 0.3, 0, 0], np.float32)
    assert spoken_span(truth) == slice(3, 7)
    still = np.zeros(5, np.float32)
    assert spoken_span(still) == slice(0, 5)


def test_without_a_face_there_is_nothing_to_read():
    with pytest.raises(NotMeasured, match="shows no face"):
        FaceSquare.of(np.zeros((2, 4, 4), bool))


def test_a_stored_reader_reads_the_same(tmp_path):
    reader, clip = MouthReader().eval(), truth_clip()
    where = FaceSquare.of(clip.truth.face_mask)
    reader.save(tmp_path / "reader.safetensors", {"made": "here"})
    again = MouthReader.load(tmp_path / "reader.safetensors")
    np.testing.assert_array_equal(again.read(clip.frames, where), reader.read(clip.frames, where))
    assert (tmp_path / "reader.safetensors").stat().st_size < 500_000


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no mouth reader at"):
        MouthReader.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("this is no checkpoint, only some words")
    with pytest.raises(CheckpointError, match="holds no mouth reader"):
        MouthReader.load(tmp_path / "text.safetensors")


def test_training_is_reproducible_and_learns_the_openings_of_a_bar():
    clips = [truth_clip(str(seed), seed) for seed in range(6)]
    config = MouthTrainingConfig(steps=40, clips_per_step=4, frames_per_clip=4)
    losses: list[float] = []
    frames = FrameSet.gather(iter(clips), every=1)
    reader = train_mouth_reader(frames, config, lambda step, loss: losses.append(loss))
    again = train_mouth_reader(frames, config)
    where = FaceSquare.of(clips[0].truth.face_mask)
    np.testing.assert_array_equal(reader.read(clips[0].frames, where), again.read(clips[0].frames, where))
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert held_out_correlation(reader, iter([truth_clip("new", 99)])) > 0.2


def test_settings_that_cannot_train_are_refused():
    with pytest.raises(ConfigError, match="2 or more frames"):
        MouthTrainingConfig(frames_per_clip=1)


def test_metric_compares_the_frames_with_the_truth_curve_and_looks_where_its_own_face_is(tmp_path):
    clip, other = truth_clip("a", 1), truth_clip("b", 2)
    own, against = prompt_of(clip, tmp_path), prompt_of(other, tmp_path)
    MouthReader().eval().save(tmp_path / "reader.safetensors", {})
    metric = MouthAgainstTruth(tmp_path / "reader.safetensors")
    expected = MouthReader.load(tmp_path / "reader.safetensors").read(clip.frames, FaceSquare.of(clip.truth.face_mask))
    for prompt, truth in ((own, clip.truth.mouth_opening), (against, other.truth.mouth_opening)):
        found = metric.measure(clip_of(clip, own), prompt).scores
        assert found["mouth_correlation"] == pytest.approx(correlation(expected, truth))
        assert found["mouth_range"] == pytest.approx(expected.std() / truth.std())
        spoken = spoken_span(truth)
        assert found["mouth_correlation_spoken"] == pytest.approx(correlation(expected[spoken], truth[spoken]))
    with pytest.raises(NotMeasured, match="has no truth"):
        metric.measure(clip_of(clip, Prompt(id="a")), own)
