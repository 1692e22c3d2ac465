"""SyncNet: names, towers, distances and crops, on the real class with random weights."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from evaluation.builders import plain_clip
from uniavgen.evaluation.metric import MetricContext
from uniavgen.evaluation.metrics.lip_sync import SyncNetLipSync
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_mesh import FaceLandmarks
from uniavgen.perception.face_tracker import FaceTracker
from uniavgen.perception.syncnet import SyncNet, scores_from_distances, shift_distances
from uniavgen.perception.syncnet_scorer import face_crops, mel_cepstra
from uniavgen.perception.weights import ResolvedWeights

PROMPT = Prompt(id="a")


@pytest.fixture(scope="module")
def network() -> SyncNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SyncNet().eval()


def test_syncnet_has_names_and_shapes_of_the_published_weights(network):
    stored = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    shapes = {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnaud.19.running_var": (512,),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.8.weight": (256, 256, 1, 3, 3),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netfcaud.0.weight": (512, 512),
        "netfclip.3.weight": (1024, 512),
    }
    assert {name: stored[name] for name in shapes} == shapes


def test_syncnet_towers_give_1024_numbers_whatever_the_batch(network):
    rng = torch.Generator().manual_seed(1)
    faces, cepstra = torch.rand(2, 3, 5, 224, 224, generator=rng) * 255, torch.randn(3, 13, 20, generator=rng)
    with torch.no_grad():
        lips, sound = network.embed_lips(faces), network.embed_audio(cepstra)
        torch.testing.assert_close(network.embed_lips(faces[1:]), lips[1:], rtol=1e-3, atol=1e-4)
    assert lips.shape == (2, 1024)
    assert sound.shape == (3, 1024)


def test_syncnet_distances_equal_a_loop_over_frames_and_shifts():
    rng = torch.Generator().manual_seed(2)
    lips, sound = (torch.randn(7, 4, generator=rng) for _ in range(2))
    result = shift_distances(lips, sound, max_shift=3)
    for place, shift in enumerate(range(-3, 4)):
        shifted = [sound[i + shift] if 0 <= i + shift < 7 else torch.zeros(4) for i in range(7)]
        expected = np.mean([float((lips[i] - shifted[i] + 1e-6).norm()) for i in range(7)])
        assert result[place] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_syncnet_offset_equals_the_shift_of_the_audio(late):
    rng = torch.Generator().manual_seed(3)
    lips = torch.randn(60, 16, generator=rng)
    # Sound that comes `late` frames after the lips: its window i belongs to lips i - late.
    sound = lips.roll(late, dims=0)
    confidence, distance, offset = scores_from_distances(shift_distances(lips, sound))
    assert offset == -late
    assert distance < 1
    assert confidence > 3


def test_syncnet_verdict_takes_the_lower_median():
    assert scores_from_distances(np.array([5.0, 1.0, 4.0, 3.0])) == (2.0, 1.0, 1)


def test_crops_follow_the_published_square():
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra eval)")
    frames = np.zeros((10, 100, 120, 3), np.uint8)
    frames[:, 40:60, 50:70] = 200
    cut = face_crops(frames, np.tile([50.0, 40.0, 70.0, 60.0], (10, 1)), Fraction(16))
    # 10 frames at 16 a second are 15 at 25; half a box of 10 px: rows 40 to 68, columns 46 to 74.
    assert cut.shape == (15, 224, 224, 3)
    assert cut[0, 5, 112, 0] == 200
    assert cut[0, 170, 112, 0] == 0
    assert (cut[0, 80, 38, 0], cut[0, 80, 24, 0]) == (200, 0)


def test_cepstra_have_a_hundred_frames_per_second():
    pytest.importorskip("python_speech_features", reason="python_speech_features is not installed (extra eval)")
    result = mel_cepstra(plain_clip(seconds=1.0).waveform)
    assert result.shape[0] == 13
    assert abs(result.shape[1] - 100) <= 1


def test_syncnet_metric_is_deterministic_and_names_what_is_too_short(network, tmp_path, monkeypatch):
    for package in ("cv2", "python_speech_features"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra eval)")
    torch.save(network.state_dict(), tmp_path / "syncnet.model")

    class KnownFace(FaceTracker):
        """Where the face is, without the networks that would find it."""

        def landmarks(self, frames) -> FaceLandmarks:
            points = np.tile(np.array([[8.0, 8.0], [24.0, 24.0]]), (len(frames), 234, 1))
            return FaceLandmarks(points=points, visible=np.ones(len(frames), bool), num_faces=1)

    weights = {"syncnet": ResolvedWeights(label="syncnet", path=tmp_path / "syncnet.model")}
    metric = SyncNetLipSync(MetricContext(weights=weights, faces=KnownFace()))
    clip = plain_clip(seconds=1.0)
    first, second = (metric.measure(clip, PROMPT).scores for _ in range(2))
    assert first == second
    assert first["ls"] >= 0
    assert first["sync_offset_ms"] % 40 == 0
    with pytest.raises(NotMeasured, match=r"shorter than 0\.84 s"):
        metric.measure(plain_clip(seconds=0.5), PROMPT)
    with pytest.raises(NotMeasured, match="silent"):
        metric.measure(plain_clip(seconds=1.0, loudness=0), PROMPT)
