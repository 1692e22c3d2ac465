"""Clips that `uniavgen synth` writes, on made-up speech."""

import io
from pathlib import Path

import numpy as np
import pytest

from uniavgen.apps.cli.synth import synth
from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.media.audio import read_audio
from uniavgen.media.video import read_video
from uniavgen.timebase import Timebase


def test_synth_command_renders_clips_of_the_given_length(
    tmp_path: Path, heads_folder: Path, speech_folder: Path, offscreen: None
) -> None:
    synth(clips=1, out=tmp_path, size=32, num_frames=5, heads=heads_folder, speech=speech_folder)
    shards = ShardSet(str(tmp_path))
    assert len(shards) == 1
    assert len(read_video(shards.read(0, "mp4"), Timebase.fps).frames) == 5
    assert len(read_audio(shards.read(0, "flac"), Timebase.sample_rate_hz)) == 5 * Timebase.sample_rate_hz // 16
    with np.load(io.BytesIO(shards.read(0, "npz"))) as truth:
        assert len(truth["mouth_opening"]) == len(truth["arkit"]) == truth["face_mask_shape"][0] == 5
    with pytest.raises(DataError, match="num_frames"):
        synth(clips=1, out=tmp_path, size=32, num_frames=9, heads=heads_folder, speech=speech_folder)
