from collections import Counter

import numpy as np
import pytest

from uniavgen.config import dump, parse
from uniavgen.errors import ConfigError
from uniavgen.tasks.given_lengths import reference_silence_tokens
from uniavgen.tasks.mixture import MixtureConfig, continuation_frames, sample_step, step_generator
from uniavgen.tasks.speech_prompt import (
    TimedText,
    encode_prompts,
    pad_symbols,
    speech_prompt,
    spread_evenly,
    starting_at,
)
from uniavgen.tasks.table import TASKS, Task
from uniavgen.timebase import Timebase

CLIP = Timebase().clip(81)


def encode(text):
    return [ord(character) - 31 for character in text]


def draws(config, count, seed=5):
    return [sample_step(config, CLIP, step_generator(seed, step)) for step in range(count)]


def test_tasks_come_in_the_papers_ratio():
    assert [TASKS[task].ratio for task in Task] == [4, 1, 1, 2, 2]
    counts = Counter(d.task for d in draws(MixtureConfig(), 1200))
    for task in Task:
        assert counts[task] / 1200 == pytest.approx(TASKS[task].ratio / 10, abs=0.05)


def test_mixture_depends_on_seed_and_step_only():
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


def test_mixture_draws_only_named_tasks():
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
def test_mixture_of_impossible_ratios_is_refused(bad):
    with pytest.raises(ConfigError):
        parse(MixtureConfig, bad)


def test_speech_prompt_of_both_passes():
    speech, no_speech, reference = TimedText("hello"), TimedText(""), TimedText("I am")
    assert "".join(speech_prompt(speech, None, 0).symbols) == "hello"
    assert "".join(speech_prompt(speech, reference, 10).symbols) == "I am hello"
    assert speech_prompt(no_speech, None, 0).symbols == []
    assert "".join(speech_prompt(no_speech, reference, 10).symbols) == "I am"
    assert reference_silence_tokens(Timebase()) == 30


def test_speech_prompt_of_symbols_longer_than_a_character():
    reference = TimedText([" ", "ni3", " ", "hao3"])
    prompt = speech_prompt(starting_at([" ", "wo3"], 7.0), reference, 50)
    assert prompt.symbols == [" ", "ni3", " ", "hao3", " ", " ", "wo3"]
    assert prompt.times is not None
    assert prompt.times[5] == 57
    assert speech_prompt(TimedText([]), reference, 50).symbols == reference.symbols


def test_speech_prompt_spreads_the_reference_evenly_and_starts_the_speech_behind_it():
    prompt = speech_prompt(starting_at("hello", 7.0), spread_evenly("I am", 20), 50)
    assert "".join(prompt.symbols) == "I am hello"
    symbols, _, times = encode_prompts([prompt], encode)
    assert symbols.shape == times.shape == (1, 10)
    assert times[0, :4].tolist() == [2.5, 7.5, 12.5, 17.5]
    assert times[0, 5] == 57
    assert times[0, [4, 6, 7, 8, 9]].isnan().all()


def test_speech_prompt_without_text_keeps_the_times_of_its_reference():
    prompt = speech_prompt(starting_at("", 7.0), spread_evenly("I am", 20), 50)
    symbols, _, times = encode_prompts([prompt], encode)
    assert symbols.tolist() == [[*encode("I am"), *[0] * 6]]
    assert times[0, :4].tolist() == [2.5, 7.5, 12.5, 17.5]


def test_speech_prompt_behind_silence_begins_there():
    _, _, times = encode_prompts([speech_prompt(starting_at("abc", 7.0), None, 50)], encode)
    assert times[0, 0] == 57
    assert times[0, 1:].isnan().all()


def test_symbols_are_filled_to_ten_and_the_filler_counts():
    symbols, lengths = pad_symbols([[], [5] * 12, [7, 8]])
    assert symbols.shape == (3, 12)
    assert lengths.tolist() == [10, 12, 10]
    assert symbols.sum().item() == 75
    assert pad_symbols([[]])[0].tolist() == [[0] * 10]
