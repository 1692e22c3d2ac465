"""Edit lists: what a phone or an editor hides, delays or cuts out stays hidden, late and cut out."""

import numpy as np
import pytest

from uniavgen.media.audio import read_audio
from uniavgen.media.mux import write_clip_keeping_audio, write_clip_keeping_video
from uniavgen.media.video import read_video

from .builders import FPS, RATE_HZ, add_audio, add_video, click_times, clicks, moving_bar, set_edits, write_media
from .test_kept_video import shown

SUFFIXES = (".mp4", ".mov", ".mkv")
EDITS = {
    "empty": [(0.5, None), (2.0, 0.0)],
    "begins later": [(1.5, 0.5)],
    "ends earlier": [(1.2, 0.0)],
    "empty and later": [(0.25, None), (1.5, 0.5)],
    "cut out": [(0.75, 0.0), (0.75, 1.25)],
    "cut out twice": [(0.5, 0.0), (0.5, 0.75), (0.5, 1.5)],
}


@pytest.fixture(params=list(EDITS))
def edited(request, tmp_path):
    path = tmp_path / "a.mov"
    write_media(
        path,
        lambda out: add_video(out, moving_bar(32), bf="0"),
        lambda out: add_audio(out, clicks(2.0, (0.3, 0.6, 0.9, 1.4, 1.7), 48_000), 48_000),
    )
    for track in (0, 1):
        set_edits(path, track, EDITS[request.param])
    return path


def test_edited_frames_are_those_that_play(edited):
    played = shown(edited)
    for index, frame in enumerate(read_video(edited, FPS).frames):
        middle_s = (index + 0.5) / 16
        before = [pixels for time_s, pixels in played if time_s <= middle_s]
        assert np.abs(frame.astype(int) - before[-1]).mean() < 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_edited_sound_plays_as_in_its_source(edited, suffix):
    clip = edited.with_name(f"clip{suffix}")
    write_clip_keeping_audio(clip, moving_bar(40), FPS, edited, {})
    expected = click_times(edited)
    assert expected
    np.testing.assert_allclose(click_times(clip), expected, atol=1e-3)
    waveform = read_audio(edited, RATE_HZ)
    for time_s in expected:
        begin = round(time_s * RATE_HZ)
        assert np.abs(waveform[begin : begin + 240]).max() > 0.5


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_edited_pictures_are_shown_as_in_their_source(edited, suffix):
    clip = edited.with_name(f"clip{suffix}")
    write_clip_keeping_video(clip, edited, clicks(1.5, (0.5,)), RATE_HZ, {})
    expected, stored = shown(edited), shown(clip, origin_s=0)
    assert len(stored) == len(expected)
    np.testing.assert_allclose([s for s, _ in stored], [s for s, _ in expected], atol=1 / 16)
    for (_, now), (_, was) in zip(stored, expected, strict=True):
        assert np.abs(now.astype(int) - was).mean() < 4
