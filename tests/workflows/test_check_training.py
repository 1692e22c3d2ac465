"""A stage is shown before it is trained: counts, and the first batch as files to look at and hear."""

from pathlib import Path

import numpy as np
import pytest
import torch

from uniavgen.apps.cli import main
from uniavgen.config import load
from uniavgen.data.features import EMPTY_CAPTION, Features
from uniavgen.data.shards import ShardWriter
from uniavgen.media.audio import read_audio
from uniavgen.media.video import read_video
from uniavgen.models.config import TransformerConfig
from uniavgen.timebase import Timebase
from uniavgen.workflows.model_files import find_model

NANO = find_model("nano")
NUM_CLIPS = 3
FRAMES = 9
JOINT_ONLY = "stage.tasks.ratios={reference_audio: 0, continuation: 0, dubbing: 0, animation: 0}"


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    """Clips of nano's sizes, 32 px wide and 16 px high, with a face in the left half."""
    folder = tmp_path_factory.mktemp("features")
    sizes, generator = load(TransformerConfig, ["nano/model"]), torch.Generator().manual_seed(0)
    timing = sizes.timebase.clip(FRAMES)
    mask = torch.zeros(timing.num_latent_frames, 1, 2)
    mask[:, :, 0] = 1

    def clip(key: str) -> Features:
        return Features(
            key=key,
            text=f"Sentence {key[-1]}",
            speaker="a",
            words=(),
            mel=torch.randn(timing.num_audio_tokens, sizes.audio.mel_bins, generator=generator),
            latents=torch.randn(sizes.video.latent_channels, timing.num_latent_frames, 2, 4, generator=generator),
            face_mask=mask.flatten(1),
            caption=torch.randn(3, sizes.video.caption_width, generator=generator),
        )

    with ShardWriter(folder) as writer:
        writer.write(EMPTY_CAPTION, clip(EMPTY_CAPTION).to_parts())
        for number in range(NUM_CLIPS):
            writer.write(f"clip{number}", clip(f"clip{number}").to_parts())
    return folder


def command(features: Path, out: Path, *more: str) -> list[str]:
    settings = [f"data.num_frames={FRAMES}", "train.batch_size=2", "train.steps=6", JOINT_ONLY]
    chosen = [part for setting in settings for part in ("-s", setting)]
    return ["train", "-c", "nano/stage3", *chosen, "--data", str(features), "--out", str(out), "--check", *more]


def test_check_decodes_the_first_batch_and_trains_nothing(features, tmp_path, capsys):
    assert main(command(features, tmp_path, "--parts", str(NANO))) == 0
    shown = capsys.readouterr().out
    assert f"{NUM_CLIPS} clips in {features}" in shown
    assert f"32x16 px, {FRAMES} frames: {NUM_CLIPS} clips, 2 a step" in shown
    assert "every clip is taken 4.0 times" in shown
    assert "Sentence" in shown
    assert "clips/s" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"check"}
    video = read_video(tmp_path / "check" / "clip-00.mp4", Timebase().fps)
    # The clip, and beside it what its face mask leaves.
    assert video.frames.shape[:3] == (FRAMES, 16, 64)
    clip, masked = np.split(video.frames.astype(float), 2, axis=2)
    assert masked[:, :, 16:].mean() < 0.6 * clip[:, :, 16:].mean()
    assert masked[:, :, :16].mean() == pytest.approx(clip[:, :, :16].mean(), rel=0.1)
    assert len(read_audio(tmp_path / "check" / "clip-01.mp4", 24000)) > 0.5 * FRAMES / 16 * 24000


def test_check_without_codecs_writes_nothing(features, tmp_path, capsys):
    assert main(command(features, tmp_path)) == 0
    assert "first batch, task joint" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_check_refuses_what_training_would_refuse(features, tmp_path, capsys):
    assert main([*command(features, tmp_path), "-s", "train.batch_size=9"]) == 2
    assert "the data has 3 clips" in capsys.readouterr().err
