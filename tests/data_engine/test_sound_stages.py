"""Stages that hear: speech is found where it is, and planted silence, clipping and music are seen."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.data_engine.talking_films import CLIPS, RATE_HZ, clip_sound, music, write_talking

from uniavgen.data_engine.stage import StageContext
from uniavgen.data_engine.stages.loudness import LoudnessConfig, LoudnessStage, loudness_between
from uniavgen.data_engine.stages.transcript import (
    TranscriptConfig,
    TranscriptStage,
    agreeing_words,
    joined_stretches,
    within_speech,
)
from uniavgen.data_engine.stages.voice_activity import VoiceActivityConfig, VoiceActivityStage
from uniavgen.errors import CheckpointError
from uniavgen.media.audio import read_audio, write_wav
from uniavgen.perception.asr import HeardWord
from uniavgen.perception.voice_activity import STEP_S, VoiceActivity, speech_intervals
from uniavgen.perception.weights import NETWORKS, ResolvedWeights

ASSETS = Path(os.environ.get("UNIAVGEN_ASSETS", "no-assets"))


def context_of(*names: str) -> StageContext:
    """Skips the test where a network is not at hand."""
    paths = {name: ASSETS / NETWORKS[name].asset for name in names}
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing:
        pytest.skip(f"no {missing[0]} in $UNIAVGEN_ASSETS")
    return StageContext(weights={name: ResolvedWeights(label=name, path=path) for name, path in paths.items()})


def voice_activity(source):
    """Runs the stage that needs no network from outside."""
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra eval)")
    stage = VoiceActivityStage(VoiceActivityConfig(), StageContext())
    stage.setup()
    return stage(source, {})


def _loudness(source):
    return LoudnessStage(LoudnessConfig(block_s=2), StageContext())(source, {})


def test_speech_is_found_where_it_is_and_nowhere_else(tmp_path):
    silence = np.zeros_like(clip_sound(CLIPS[0]))
    sounds = [silence, clip_sound(CLIPS[1]), music(len(silence) / RATE_HZ), clip_sound(CLIPS[2])]
    clip_s = len(silence) / RATE_HZ
    output = voice_activity(write_talking(tmp_path / "a.mp4", CLIPS[:4], sounds))
    places = [int(start_s // clip_s) for start_s, _ in output.values["speech"]]
    assert set(places) == {1, 3}
    assert output.values["speech_s"] == pytest.approx(sum(b - a for a, b in output.values["speech"]), abs=0.01)
    assert 3 < output.values["speech_s"] < 8
    assert len(output.arrays["probability"]) == pytest.approx(output.values["sound_s"] / STEP_S)


def test_speech_does_not_depend_on_blocks():
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra eval)")
    sound = np.concatenate([read_audio(clip, 16_000) for clip in CLIPS])
    network = VoiceActivity()
    whole = network.probabilities([sound])
    parts = network.probabilities(np.array_split(sound, 5))
    assert len(whole) == len(parts)
    assert np.abs(whole - parts).max() < 0.2
    assert np.mean((whole > 0.5) != (parts > 0.5)) < 0.01


def test_intervals_of_speech_close_short_pauses_and_drop_short_sounds():
    steps = np.zeros(100)
    steps[10:40] = steps[43:60] = steps[80:83] = 0.9
    steps[20:22] = 0.4
    expected = [(10 * STEP_S, 60 * STEP_S)]
    assert speech_intervals(steps, 0.5, 0.35, 0.25, 0.2) == expected
    assert len(speech_intervals(steps, 0.5, 0.35, 0.0, 0.0)) == 3
    assert speech_intervals(np.ones(10), 0.5, 0.35, 0.25, 0.2) == [(0.0, 10 * STEP_S)]
    assert speech_intervals(np.zeros(0), 0.5, 0.35, 0.25, 0.2) == []


def test_silence_has_finite_loudness(tmp_path):
    source = write_talking(tmp_path / "a.mp4", CLIPS[:1], [np.zeros_like(clip_sound(CLIPS[0]))])
    output = _loudness(source)
    assert (output.values["integrated_lufs"], output.values["silence_share"]) == (-70.0, 1.0)
    assert np.isfinite(output.arrays["lufs"]).all()


def test_clipping_is_seen_also_after_it_was_made_quieter_and_coded(tmp_path):
    clean = np.concatenate([clip_sound(clip) for clip in CLIPS[:2]])
    loud = np.clip(clean * 4 / np.abs(clean).max(), -1, 1).astype(np.float32)
    worst = {}
    for name, sound in (("clean", clean), ("clipped", loud), ("quieter", 0.3 * loud)):
        output = _loudness(write_talking(tmp_path / f"{name}.mp4", CLIPS[:2], [sound]))
        worst[name] = [loudness_between(output, *times)["clipping"] for times in ((0.0, 4.0), (5.2, 9.0))]
    assert max(worst["clean"]) < 0.006
    assert min(worst["clipped"] + worst["quieter"]) > 0.012


def test_sound_alone_is_measured_in_both_channels(tmp_path):
    write_wav(tmp_path / "a.wav", np.full(RATE_HZ, 0.5, np.float32), RATE_HZ)
    source = write_talking(tmp_path / "a.mp4", CLIPS[:1])
    output = _loudness(type(source)(path=tmp_path / "a.wav", key="a", rights=source.rights))
    assert output.arrays["peak"].tolist() == [0.5]


def test_arrays_of_seconds_are_equally_long_where_sound_ends_shortly_behind_one(tmp_path):
    sound = np.random.default_rng(0).normal(0, 0.1, 2 * RATE_HZ + 900).astype(np.float32)
    write_wav(tmp_path / "a.wav", sound, RATE_HZ)
    source = write_talking(tmp_path / "a.mp4", CLIPS[:1])
    output = _loudness(type(source)(path=tmp_path / "a.wav", key="a", rights=source.rights))
    assert {name: len(array) for name, array in output.arrays.items()} == {"lufs": 2, "peak": 2, "clipping": 2}
    assert loudness_between(output, 0.0, 2.1)["peak"] > 0.3


def test_stretches_join_speech_over_pauses_and_are_never_too_long():
    speech = [(0.0, 5.0), (6.0, 12.0), (15.0, 16.0), (20.0, 70.0)]
    assert joined_stretches(speech[:3], 24.0, 2.0) == [(0.0, 12.0), (15.0, 16.0)]
    assert joined_stretches(speech[:2], 10.0, 2.0) == [(0.0, 5.0), (6.0, 12.0)]
    long = joined_stretches(speech[3:], 24.0, 2.0)
    assert (long[0][0], long[-1][1], len(long)) == (20.0, 70.0, 3)
    assert max(b - a for a, b in long) <= 24.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("Well, I love Cheese.", "well I love cheese", (True, True, True, True)),
        ("I love rushing teeth", "I love brushing my teeth", (True, True, False, True)),
        ("a b", "", (False, False)),
        ("你好 世界", "你好世 间", (True, False)),
        ("...", "else", (True,)),
        ("", "words", ()),
    ],
)
def test_words_agree_whatever_case_and_punctuation(first, second, expected):
    def words(text):
        return [HeardWord(text=word, start_s=0.0, end_s=0.1, probability=1.0) for word in text.split()]

    assert agreeing_words(words(first), words(second)) == expected


def test_words_do_not_reach_into_silence():
    speech = [[1.0, 2.0], [2.5, 3.0]]
    assert within_speech(0.4, 1.3, speech) == (1.0, 1.3)
    assert within_speech(1.8, 3.4, speech) == (1.8, 3.0)
    assert within_speech(2.1, 2.4, speech) == (2.1, 2.4)


def test_whisper_of_another_format_is_refused_before_a_run(tmp_path):
    context = StageContext(weights={"whisper-base": ResolvedWeights(label="a", path=tmp_path)})
    with pytest.raises(CheckpointError, match="ct2-transformers-converter"):
        TranscriptStage(TranscriptConfig(), context)


def test_words_have_the_times_of_the_source(tmp_path):
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed (extra eval)")
    stage = TranscriptStage(TranscriptConfig(), context_of("whisper-base"))
    stage.setup()
    silence = np.zeros_like(clip_sound(CLIPS[0]))
    source = write_talking(tmp_path / "a.mp4", CLIPS[:2], [silence, clip_sound(CLIPS[1])])
    activity = voice_activity(source)
    values = stage(source, {"voice_activity": activity}).values
    start_s, end_s = activity.values["speech"][0][0], activity.values["speech"][-1][1]
    words = values["words"]
    assert len(words) >= 4
    assert all(start_s - 0.5 <= word["start_s"] <= word["end_s"] <= end_s + 0.5 for word in words)
    assert all(a["end_s"] <= b["start_s"] for a, b in pairwise(words))
    assert values["language"] == "en"
    nothing = stage(source, {"voice_activity": type(activity)(values={"speech": []})}).values
    assert (nothing["words"], nothing["language"], nothing["agreement"]) == ([], "", 0.0)
