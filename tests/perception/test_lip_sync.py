"""Streams of lips and sound, and the shift between them."""

import numpy as np
import pytest
import torch

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.corruption import shifted
from uniavgen.evaluation.statistics import auc
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_track import FaceTrack
from uniavgen.perception.lip_sync import EMBEDDING, FEATURES, MAX_SHIFT, LipSyncEncoder, compare_streams, resample_lips
from uniavgen.perception.loading import save_own
from uniavgen.perception.sound import SPEECH_RATE_HZ


def streams(count: int = 200, shift: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random unit vectors, and the same `shift` steps later."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(count + 2 * MAX_SHIFT, 8)), axis=0)
    walk = walk[3:] - walk[:-3]
    walk /= np.linalg.norm(walk, axis=1, keepdims=True)
    return walk[MAX_SHIFT : MAX_SHIFT + count - 3], walk[MAX_SHIFT - shift : MAX_SHIFT - shift + count - 3]


@pytest.mark.parametrize("shift", [-20, -1, 0, 7, 24])
def test_offset_equals_the_planted_shift(shift):  # later sound has a negative offset
    result = compare_streams(*streams(shift=shift))
    assert result.offset_ms == pytest.approx(-20 * shift, abs=3)
    assert result.distance == pytest.approx(0, abs=1e-6)
    assert result.confidence > 0.5


def test_confidence_is_lower_for_streams_of_different_content():
    own, (_, other) = compare_streams(*streams()), streams(seed=1)
    strange = compare_streams(streams()[0], other)
    assert strange.confidence < 0.5 * own.confidence
    assert strange.distance > own.distance + 0.5
    assert strange.confidence_unshifted < own.confidence_unshifted == pytest.approx(own.confidence)


def test_offset_is_finer_than_a_step():
    # Between two steps: the mean of neighbours, so half of 20 ms.
    lip_features, sound_features = streams(count=400)
    between = (sound_features[1:] + sound_features[:-1]) / 2
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    assert compare_streams(lip_features[: len(between)], between).offset_ms == pytest.approx(10, abs=4)


def test_clip_too_short_to_compare_has_a_reason():
    with pytest.raises(NotMeasured, match="sync needs 1 s"):
        compare_streams(*streams(count=40))


@pytest.mark.parametrize("fps", [16.0, 25.0, 30.0])
def test_features_have_their_time_at_any_rate(fps):
    middles = (torch.arange(round(4 * fps)) + 0.5) / fps
    stepped = resample_lips((3 * torch.sin(2 * torch.pi * middles))[:, None].expand(-1, FEATURES), fps)
    assert stepped.shape == (FEATURES, 200)
    times = (torch.arange(200) + 0.5) / 50
    expected = torch.sin(2 * torch.pi * times) * 3 / (3 / 2**0.5 + 0.3)
    assert (stepped[0] - expected)[2:-2].abs().max() < 0.05


def test_face_that_never_moves_stays_at_zero():
    assert resample_lips(torch.full((32, FEATURES), 5.0), 16.0).abs().max() == 0


def test_offset_is_positive_for_later_audio():
    sound = np.arange(1, SPEECH_RATE_HZ + 1, dtype=np.float32)
    later, earlier = shifted(sound, 100.0), shifted(sound, -100.0)
    assert len(later) == len(earlier) == len(sound)
    assert later[1599:1602].tolist() == [0, 1, 2]
    assert earlier[0] == 1601
    assert earlier[-1] == 0


def test_auc_is_how_often_better_is_above_worse():
    assert auc([3.0, 4.0], [1.0, 2.0]) == 1
    assert auc([1.0, 2.0], [1.0, 2.0]) == 0.5


def test_lip_sync_encoder_gives_unit_vectors_of_one_rate_and_is_stored_whole(tmp_path):
    reader = LipSyncEncoder().eval()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (32, 40, 40, 3), np.uint8)
    where = FaceTrack(centres=np.full((32, 2), 0.5), sizes=np.full(32, 0.6))
    lip_features = reader.embed_video(frames, 16.0, where)
    sound_features = reader.embed_waveform(rng.normal(size=2 * SPEECH_RATE_HZ).astype(np.float32))
    assert lip_features.shape == sound_features.shape == (100, EMBEDDING)
    np.testing.assert_allclose(np.linalg.norm(lip_features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(sound_features, axis=1), 1, atol=1e-5)
    save_own(reader, tmp_path / "reader.safetensors", {}, torch.float32)
    np.testing.assert_array_equal(
        LipSyncEncoder.load(tmp_path / "reader.safetensors").embed_video(frames, 16.0, where), lip_features
    )


def test_weights_file_that_is_missing_or_foreign_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no sync reader at .*train-reader sync"):
        LipSyncEncoder.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("this is no checkpoint, only some words")
    with pytest.raises(CheckpointError, match="holds no sync reader"):
        LipSyncEncoder.load(tmp_path / "text.safetensors")
