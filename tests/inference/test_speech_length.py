"""A speech that its clip cannot hold is refused or warned of, by the words that are spoken."""

import logging

import numpy as np
import pytest

from uniavgen.errors import ConfigError
from uniavgen.inference.prepared_request import prepare_request
from uniavgen.inference.request import MAX_CHARACTERS, Request
from uniavgen.inference.speech_length import ENGLISH, MAX_EXCESS, check_speech_fits, speech_rate
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase

TIMING = Timebase().clip(81)
CLIP_S = float(TIMING.duration_s)
FRAME = np.full((32, 32, 3), 120, np.uint8)


def text_of(seconds: float) -> str:
    """Returns a text that takes so long at the usual rate."""
    return ("word " * 1000)[: round(seconds * ENGLISH.usual)]


@pytest.mark.parametrize("seconds", [0.0, 1.0, 0.99 * CLIP_S, 0.99 * CLIP_S * ENGLISH.fast / ENGLISH.usual])
def test_speech_that_a_fast_speaker_fits_into_the_clip_passes_silently(seconds):
    assert check_speech_fits(text_of(seconds), Task.JOINT, TIMING) is None


def test_warning_names_the_seconds_of_a_long_speech_and_the_frames_that_fit():
    warning = check_speech_fits(text_of(6.5), Task.JOINT, TIMING)
    assert warning is not None
    assert "takes about 6.5 s, the clip lasts 5.06 s" in warning
    assert "--num-frames 105" in warning
    assert check_speech_fits(text_of(6.5), Task.JOINT, Timebase().clip(105)) is None


def test_speech_beyond_the_largest_excess_is_refused():
    with pytest.raises(ConfigError, match=r"takes about 7\.7 s, the clip lasts 5\.06 s; .* --num-frames 125"):
        check_speech_fits(text_of(MAX_EXCESS * CLIP_S + 0.1), Task.JOINT, TIMING)


def test_excess_of_a_word_is_warned_of_in_the_shortest_clips():
    timing = Timebase().clip(5)
    warning = check_speech_fits("Hi there.", Task.JOINT, timing)
    assert warning is not None
    assert "takes about 0.6 s, the clip lasts 0.31 s" in warning
    with pytest.raises(ConfigError, match=r"takes about 1\.1 s"):
        check_speech_fits(text_of(1.1), Task.JOINT, timing)


def test_speech_longer_than_every_clip_names_no_number_of_frames():
    with pytest.raises(ConfigError, match="shorten it, since no clip is longer than 1025 frames"):
        check_speech_fits(text_of(70), Task.CONTINUATION, TIMING)


@pytest.mark.parametrize(("task", "given"), [(Task.DUBBING, "video"), (Task.ANIMATION, "recording")])
def test_length_of_given_media_is_not_changed_by_a_number_of_frames(task, given):
    with pytest.raises(ConfigError, match=f"shorten it, or use a longer {given}$"):
        check_speech_fits(text_of(10), task, TIMING)


def test_scripts_without_a_measured_rate_are_not_estimated():
    assert speech_rate("\u4f60\u597d") is None
    assert check_speech_fits("\u4f60\u597d" * 500, Task.JOINT, TIMING) is None


def test_words_that_figures_stand_for_are_counted(pipeline, caplog):
    figures = {"task": Task.JOINT, "image": FRAME, "speech": "$987,654,321.99", "num_frames": 33}
    with pytest.raises(ConfigError, match=r"the clip lasts 2\.06 s"):
        prepare_request(Request(**figures), pipeline.spec)
    with caplog.at_level(logging.WARNING):
        prepare_request(Request(**figures, verbatim=True), pipeline.spec)
    assert not caplog.records


def test_dubbing_compares_the_speech_with_its_video(pipeline):
    video = np.repeat(FRAME[None], 17, axis=0)
    with pytest.raises(ConfigError, match=r"the clip lasts 1\.06 s"):
        prepare_request(Request(task=Task.DUBBING, video=video, speech=text_of(2), num_frames=81), pipeline.spec)


def test_warning_is_logged_when_a_request_is_prepared(pipeline, caplog):
    with caplog.at_level(logging.WARNING, logger="uniavgen"):
        pipeline.prepare(Request(task=Task.JOINT, image=FRAME, speech=text_of(1.4), num_frames=17))
    assert ["so it will be hurried" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("field", ["speech", "caption", "voice_text"])
def test_text_of_any_length_is_bounded(field):
    texts = {
        "speech": "Hi.",
        "voice": np.ones(24_000, np.float32),
        "voice_text": "Ha.",
        field: "a" * (MAX_CHARACTERS + 1),
    }
    with pytest.raises(ConfigError, match=f"{field.replace('_', ' ')} has 4001 characters, at most 4000"):
        Request(task=Task.REFERENCE_AUDIO, image=FRAME, **texts)
