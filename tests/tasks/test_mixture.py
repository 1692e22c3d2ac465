from collections import Counter

import numpy as np
import pytest

from uniavgen.config import dump, parse
from uniavgen.errors import ConfigError
from uniavgen.tasks.mixture import MixtureConfig, continuation_frames, sample_step, silence_tokens, step_generator
from uniavgen.tasks.speech_prompt import cond_text, pad_symbols, symbol_timestamps, uncond_text
from uniavgen.tasks.table import TASKS, Task
from uniavgen.timebase import Timebase

CLIP = Timebase().clip(81)


def draws(config, count, seed=5):
    return [sample_step(config, CLIP, step_generator(seed, step)) for step in range(count)]


def test_tasks_come_in_the_papers_ratio():
    assert [TASKS[task].ratio for task in Task] == [4, 1, 1, 2, 2]
    counts = Counter(d.task for d in draws(MixtureConfig(), 1200))
    for task in Task:
        assert counts[task] / 1200 == pytest.approx(TASKS[task].ratio / 10, abs=0.05)


def test_draws_depend_on_seed_and_step_only():
    assert draws(MixtureConfig(), 50) == draws(MixtureConfig(), 50)
    assert draws(MixtureConfig(), 50) != draws(MixtureConfig(), 50, seed=6)


def test_lengths_follow_the_table():
    for d in draws(MixtureConfig(), 200):
        match d.task:
            case Task.JOINT:
                assert (d.given_frames, d.given_tokens, d.reference_tokens) == (1, 0, 0)
            case Task.REFERENCE_AUDIO:
                assert (d.given_frames, d.given_tokens) == (1, 0)
                assert 100 <= d.reference_tokens <= 300
            case Task.CONTINUATION:
                assert 4 <= d.given_frames <= 13
                assert d.given_tokens == CLIP.tokens_before(d.given_frames)
            case Task.DUBBING:
                assert (d.given_frames, d.given_tokens) == (21, 0)
                assert d.reference_tokens == 0 or 100 <= d.reference_tokens <= 300
            case Task.ANIMATION:
                assert (d.given_frames, d.given_tokens, d.reference_tokens) == (1, 506, 0)


def test_continuation_never_takes_all_or_nothing():
    for num_frames in (5, 9, 81):
        clip = Timebase().clip(num_frames)
        for uniform in (0.0, 0.5, np.nextafter(1, 0)):
            assert 1 <= continuation_frames(MixtureConfig(), clip, uniform) < clip.num_latent_frames


def test_only_named_tasks_are_drawn():
    config = parse(MixtureConfig, {"ratios": {"joint": 1, "dubbing": 0}})
    assert {d.task for d in draws(config, 100)} == {Task.JOINT}
    assert parse(MixtureConfig, dump(config)) == config


@pytest.mark.parametrize(
    "bad",
    [
        {"ratios": {}},
        {"ratios": {"joint": -1}},
        {"ratios": {"singing": 1}},
        {"continuation": [0.6, 0.2]},
        {"reference_s": [0, 1]},
        {"allowed_reference": 2},
    ],
)
def test_bad_mixtures(bad):
    with pytest.raises(ConfigError):
        parse(MixtureConfig, bad)


def test_words_and_silence():
    assert cond_text("hello") == "hello"
    assert cond_text("hello", "I am") == "I am hello"
    assert uncond_text() == ""
    assert uncond_text("I am") == "I am "
    assert silence_tokens(CLIP) == 30


def test_what_a_reference_says_spreads_over_its_sound_and_the_speech_follows_it():
    times = symbol_timestamps(num_symbols=10, transcript=4, reference_tokens=50, silence_tokens=30, onset=7.0)[0]
    assert times[:4].tolist() == [2.5, 7.5, 12.5, 17.5]
    assert times[5] == 57
    assert times[[4, 6, 7, 8, 9]].isnan().all()
    silent = symbol_timestamps(num_symbols=5, transcript=4, reference_tokens=50, silence_tokens=30, onset=7.0)[0]
    assert silent[:4].tolist() == [2.5, 7.5, 12.5, 17.5]


def test_a_sentence_behind_silence_begins_there():
    times = symbol_timestamps(num_symbols=3, transcript=0, reference_tokens=50, silence_tokens=30, onset=7.0)[0]
    assert times[0] == 57
    assert times[1:].isnan().all()


def test_symbols_are_filled_to_ten_and_the_filler_counts():
    symbols, lengths = pad_symbols([[], [5] * 12, [7, 8]])
    assert symbols.shape == (3, 12)
    assert lengths.tolist() == [10, 12, 10]
    assert symbols.sum().item() == 75
    assert pad_symbols([[]])[0].tolist() == [[0] * 10]
