"""Changes of the speaker: planted ones are found with their places, and one voice that varies has none."""

import numpy as np
import pytest
from tests.data_engine.talking_films import CLIPS, FPS, clip_sound, write_talking
from tests.data_engine.test_sound_stages import context_of

from uniavgen.data_engine.stage import StageOutput
from uniavgen.data_engine.stages.speaker_changes import (
    SpeakerChangesConfig,
    SpeakerChangesStage,
    place_of_change,
    voice_changes,
)

SETTINGS = SpeakerChangesConfig()


def _windows(people, seed=0, cosine=0.8):
    """A voice a step, each window the mean of the steps that it covers; voices vary about those of people."""
    rng = np.random.default_rng(seed)
    voices = np.linalg.qr(rng.normal(size=(192, max(people) + 1)))[0].T
    noise = rng.normal(size=(len(people), 192)) / np.sqrt(192)
    steps = cosine * voices[people] + np.sqrt(1 - cosine**2) * noise * np.sqrt(SETTINGS.steps)
    windows = np.stack([steps[i : i + SETTINGS.steps].mean(axis=0) for i in range(len(people) - SETTINGS.steps + 1)])
    return windows / np.linalg.norm(windows, axis=1, keepdims=True)


def _changes(people, seed=0):
    windows = _windows(people, seed)
    return [i for i, _ in voice_changes(windows, SETTINGS.steps, SETTINGS.change_distance, SETTINGS.same_distance)]


@pytest.mark.parametrize("seed", range(5))
def test_changes_between_voices_are_found_where_they_are(seed):
    assert _changes([0] * 30, seed) == []
    found = _changes([0] * 12 + [1] * 9 + [0] * 12 + [2] * 20, seed)
    assert found == pytest.approx([12, 21, 33], abs=1)


def test_too_little_speech_has_no_changes():
    for count in range(4):
        assert voice_changes(np.zeros((count, 192)), 3, SETTINGS.change_distance, SETTINGS.same_distance) == []


@pytest.mark.parametrize(
    ("at_s", "expected"), [(0.1, 2.1), (0.5, 3.5), (1.0, 3.5), (1.7, 3.5), (1.8, 4.8), (4.0, 7.0), (9.0, 8.0)]
)
def test_change_lies_in_a_pause_that_is_near(at_s, expected):
    assert place_of_change([(2.0, 3.0), (4.0, 8.0)], at_s, 0.75) == pytest.approx(expected)


def test_voice_that_begins_in_the_middle_of_a_film_is_found(tmp_path):
    pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed (extra eval)")
    stage = SpeakerChangesStage(SETTINGS, context_of("speaker"))
    stage.setup()
    # Of the shipped clips the last ones have one kind of voice, the first another.
    sounds = [clip_sound(CLIPS[i]) for i in (1, 2, 0, 3)]
    source = write_talking(tmp_path / "a.mp4", CLIPS[:4], sounds)
    clip_s = float(81 / FPS)
    speech = [[k * clip_s + 0.5, k * clip_s + 2.8] for k in range(4)]
    changes = stage(source, {"voice_activity": StageOutput(values={"speech": speech})}).values["changes"]
    assert [change["time_s"] for change in changes] == pytest.approx([2 * clip_s, 3 * clip_s], abs=1.5)
