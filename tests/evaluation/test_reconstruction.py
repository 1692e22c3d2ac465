"""Pictures against the prompt's own video."""

import numpy as np
import pytest

from uniavgen.evaluation.clip import read_clip
from uniavgen.evaluation.metric import MetricContext
from uniavgen.evaluation.metrics.reconstruction import Reconstruction
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.mux import write_clip
from uniavgen.perception.errors import NotMeasured

from .builders import FPS, clip_of, prompt_of, truth_clip


@pytest.fixture
def prompt(tmp_path) -> Prompt:
    """With a video of its own beside the truth."""
    truth = truth_clip()
    write_clip(tmp_path / "a.mp4", truth.frames, FPS, truth.sample.waveform, 24_000, {})
    base = prompt_of(truth, tmp_path)
    return Prompt(id=base.id, truth=base.truth, video=tmp_path / "a.mp4")


def test_noise_of_one_power_has_its_ratio_everywhere(prompt):
    assert prompt.video is not None
    own = read_clip(prompt.video).frames
    # Away from the ends of the range, so that 10 may be added or taken off: 20 log10(255 / 10) dB.
    signs = np.random.default_rng(0).choice([-10, 10], own.shape)
    noisy = np.where((own < 10) | (own > 245), own, own + signs).astype(np.uint8)
    scores = Reconstruction(MetricContext()).measure(clip_of(truth_clip(), frames=noisy), prompt).scores
    assert scores["psnr_db"] == pytest.approx(28.13, abs=0.02)
    assert scores["psnr_mouth_db"] == pytest.approx(28.13, abs=0.02)
    assert 0.2 < scores["ssim"] < 0.95


def test_error_at_the_mouth_alone_is_one_of_the_mouth(prompt):
    assert prompt.video is not None
    near, far = read_clip(prompt.video).frames.copy(), read_clip(prompt.video).frames.copy()
    near[:, 10:14, 5:11] += 30
    far[:, 26:30, 22:28] += 30
    at_mouth, elsewhere = (
        Reconstruction(MetricContext()).measure(clip_of(truth_clip(), frames=frames), prompt) for frames in (near, far)
    )
    assert at_mouth.scores["psnr_db"] == pytest.approx(elsewhere.scores["psnr_db"], abs=0.5)
    assert at_mouth.scores["psnr_mouth_db"] < 25
    assert "prompt's own" in elsewhere.reasons["psnr_mouth_db"]


def test_clips_that_cannot_be_compared_have_a_reason(prompt):
    clip = clip_of(truth_clip())
    with pytest.raises(NotMeasured, match="no video"):
        Reconstruction(MetricContext()).measure(clip, Prompt(id="a"))
    with pytest.raises(NotMeasured, match="is 32x32, the clip 16x16"):
        Reconstruction(MetricContext()).measure(clip_of(truth_clip(), frames=clip.frames[:, :16, :16]), prompt)
    own = read_clip(prompt.video).frames
    with pytest.raises(NotMeasured, match="the prompt's own"):
        Reconstruction(MetricContext()).measure(clip_of(truth_clip(), frames=own), prompt)
    without = Prompt(id="a", video=prompt.video)
    result = Reconstruction(MetricContext()).measure(clip_of(truth_clip(), frames=clip.frames // 2), without)
    assert result.scores.keys() == {"psnr_db", "ssim"}
    assert "no truth" in result.reasons["psnr_mouth_db"]
