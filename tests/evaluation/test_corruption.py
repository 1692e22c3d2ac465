"""Clips corrupted in known ways, by which metrics are measured."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.corruption import (
    OTHER_VOICE_AND_EMOTION,
    SHIFTS_MS,
    ClipAttributes,
    corruptions,
    fit_length,
    mismatched_partners,
    shifted,
)
from uniavgen.perception.frames import LastClipCache

WOMAN, MAN = (
    ClipAttributes(gender="female", age="grown", emotion="sad"),
    ClipAttributes(gender="male", age="old", emotion="sad"),
)
GIRL, BOY = (ClipAttributes(gender=gender, age="child", emotion="happy") for gender in ("female", "male"))


def test_partners_differ_as_they_should():
    partners = mismatched_partners([WOMAN, GIRL, BOY, MAN])
    assert partners["sound of the next clip"] == [1, 2, 3, 0]
    assert partners["another voice"] == [1, 3, 3, 0]
    assert partners["another emotion"] == [1, 3, 3, 1]
    assert partners[OTHER_VOICE_AND_EMOTION] == [1, 3, 3, 1]
    assert mismatched_partners([GIRL, BOY])["another voice"] == [None, None]


def test_shift_and_its_opposite_leave_the_middle():
    sound = np.arange(1, 16_001, dtype=np.float32)
    assert np.array_equal(shifted(shifted(sound, 100.0), -100.0)[:14_400], sound[:14_400])
    assert shifted(sound, 100.0)[:1600].max() == 0
    assert shifted(sound, -100.0)[0] == 1601
    assert np.array_equal(shifted(sound, 0.0), sound)
    assert not shifted(sound[:100], 400.0).any()


def test_sound_is_cut_or_filled_up():
    sound = np.ones(4, np.float32)
    assert fit_length(sound, 2).tolist() == [1, 1]
    assert fit_length(sound, 5).tolist() == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("others", [0, 2])
def test_corruptions_keep_the_rest_of_the_clip(others):
    rng = np.random.default_rng(0)
    frames, sounds = rng.integers(0, 256, (6, 8, 8, 3), np.uint8), rng.standard_normal((3, 8000)).astype(np.float32)
    clip = DecodedClip(path=Path("a.mp4"), frames=frames, fps=Fraction(16), waveform=sounds[0])
    ways = corruptions(clip, {str(k): sounds[k] for k in range(1, 1 + others)})
    assert len({way.name for way in ways}) == len(ways) == len(SHIFTS_MS) + 3 + others
    assert ways[0].clip is clip
    still = ways[-1].clip
    assert still.waveform is clip.waveform
    assert (still.frames == frames[0]).all()
    for way in ways[1:-1]:
        assert way.clip.frames is clip.frames
        assert way.clip.waveform is not None
        assert len(way.clip.waveform) == 8000
        assert not np.array_equal(way.clip.waveform, clip.waveform)


def test_cache_keeps_results_of_the_same_frames():
    one, two, computed = np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3), np.uint8), []
    cache = LastClipCache[int]()
    for frames in (one, one, two, two, one):
        cache.get(frames, lambda: computed.append(0) or len(computed))
    assert len(computed) == 3
