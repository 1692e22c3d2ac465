"""Lines, splits, prosody, and what is said."""

from pathlib import Path

import numpy as np
import pytest

from uniavgen.errors import ConfigError, DataError
from uniavgen.synth.assets import find_heads, find_speech, find_voices
from uniavgen.synth.moods import ANGRY, HAPPY, SAD
from uniavgen.synth.prosody import apply_tone, pad_to_length, resample_pitch
from uniavgen.synth.sentences import plural, sentence
from uniavgen.synth.speech import SAMPLE_RATE_HZ, RecordedSpeech, Speech, split_of
from uniavgen.synth.voices import FliteSpeech, KokoroSpeech, blends, voice_style


def test_sentences_are_fixed_by_their_number_and_seldom_repeat() -> None:
    drawn = [sentence(7, i) for i in range(500)]
    assert drawn == [sentence(7, i) for i in range(500)]
    assert len(set(drawn)) > 490
    words = {word.strip(".,?!").lower() for text in (sentence(8, i) for i in range(2000)) for word in text.split()}
    assert len(words) > 2300
    for text in drawn:
        assert text[0].isupper()
        assert text[-1] in ".?!"
        assert not set("{}|[]") & set(text)
        assert len(text) <= 64


def test_sentences_in_the_manner_of_harvard_are_plain_statements_of_about_five_key_words() -> None:
    drawn = [sentence(7, i, "harvard") for i in range(400)]
    small = {*"the a an and or to in on of is was were will had from with for he his her your they as who by".split()}  # noqa: SIM905
    keys = [sum(word.strip(".,").lower() not in small for word in text.split()) for text in drawn]
    assert all(text.endswith(".") for text in drawn)
    assert 4.5 < np.mean(keys) < 6.5
    assert np.mean([4 <= number <= 7 for number in keys]) > 0.85


@pytest.mark.parametrize(
    ("one", "many"),
    [("box", "boxes"), ("mouse", "mice"), ("pony", "ponies"), ("key", "keys"), ("wife", "wives"), ("man", "men")],
)
def test_plural_follows_english_spelling(one: str, many: str) -> None:
    assert plural(one) == many


def test_splits_share_no_sentence(speech_folder: Path) -> None:
    texts = {
        split: {RecordedSpeech(speech_folder, split).line(3, i).text for i in range(80)}
        for split in ("train", "val", "all")
    }
    assert texts["train"]
    assert texts["val"]
    assert not texts["train"] & texts["val"]
    assert texts["train"] | texts["val"] == texts["all"]
    assert split_of("Some words.") == split_of("SOME WORDS.")


def test_utterances_repeat_only_after_all_others(speech_folder: Path) -> None:
    source = RecordedSpeech(speech_folder)
    first = [source.line(5, i).utterance for i in range(40)]
    assert len(set(first)) == 40
    assert first != [source.line(6, i).utterance for i in range(40)]
    assert {source.line(5, 40 + i).utterance for i in range(40)} == set(first)


def test_recorded_speech_errors_name_what_is_wrong(tmp_path: Path, speech_folder: Path) -> None:
    with pytest.raises(ConfigError, match="train, val, all"):
        RecordedSpeech(speech_folder, "test")
    (tmp_path / "index.jsonl").write_text("nonsense")
    with pytest.raises(DataError, match="is not JSON"):
        RecordedSpeech(tmp_path)
    (tmp_path / "index.jsonl").write_text("")
    with pytest.raises(DataError, match="no utterance"):
        RecordedSpeech(tmp_path)


def test_material_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNIAVGEN_VOICES", "UNIAVGEN_SPEECH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match=r"no mpfb2/3dobjs/base.obj"):
        find_heads(tmp_path)
    with pytest.raises(DataError, match="--voices"):
        find_voices()
    with pytest.raises(DataError, match="--speech"):
        find_speech()


def test_pitch_shift_up_shortens_waveform_and_phones_alike() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ).astype(np.float32)
    tuned = resample_pitch(Speech(waveform=tone, phones=(("a", 0.2, 0.8),)), 1.25)
    assert tuned.duration_s == pytest.approx(0.8, abs=1e-3)
    assert tuned.phones == (("a", pytest.approx(0.16), pytest.approx(0.64)),)
    spectrum = np.abs(np.fft.rfft(tuned.waveform))
    assert np.argmax(spectrum) / tuned.duration_s == pytest.approx(250, abs=3)


def test_padding_gives_the_length_and_cuts_phones() -> None:
    speech = Speech(waveform=np.ones(1000, np.float32), phones=(("a", 0.0, 0.01), ("b", 0.01, 0.04), ("c", 0.1, 0.2)))
    placed = pad_to_length(speech, 0.01, 720)
    assert placed.waveform.shape == (720,)
    assert not placed.waveform[:240].any()
    assert placed.waveform[240:].all()
    assert [phone[0] for phone in placed.phones] == ["a", "b"]
    assert placed.phones[-1][2] == pytest.approx(0.03)


def test_moods_change_loudness() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4800).astype(np.float32)
    soft, plain = apply_tone(noise, -6.0, {}), apply_tone(noise, 0.0, {})
    assert np.abs(plain).max() == pytest.approx(0.55, rel=1e-3)
    assert np.abs(soft).max() == pytest.approx(0.55 / 2, rel=0.01)


def test_moods_change_the_spectrum_by_their_gains_and_no_times() -> None:
    """Gain at a frequency against that at 1 kHz, since the peak is kept."""
    click = np.zeros(SAMPLE_RATE_HZ, np.float32)
    click[SAMPLE_RATE_HZ // 2] = 1
    for mood in (HAPPY, ANGRY, SAD):
        filtered = apply_tone(click, 0.0, mood.tone_db)
        assert np.abs(filtered).argmax() == SAMPLE_RATE_HZ // 2
        gains_db = 20 * np.log10(np.abs(np.fft.rfft(filtered)))
        between = np.interp(np.log(1000), np.log(list(mood.tone_db)), list(mood.tone_db.values()))
        for hz, gain_db in mood.tone_db.items():
            assert gains_db[round(hz)] - gains_db[1000] == pytest.approx(gain_db - between, abs=0.5)


def test_flite_times_cover_its_sound() -> None:
    try:
        source = FliteSpeech("train")
    except ConfigError as error:
        pytest.skip(str(error))
    line = source.line(1, 2)
    assert split_of(line.text) == "train"
    speech, faster = source.synthesize(line, 1.0), source.synthesize(line, 1.3)
    assert faster.duration_s < 0.9 * speech.duration_s
    ends = [end for _, _, end in speech.phones]
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(speech.duration_s, abs=0.1)


@pytest.mark.slow
def test_kokoro_phones_lie_where_it_is_loud() -> None:
    try:
        source = KokoroSpeech(find_voices(), "val")
        line = source.line(1, 2)
        speech = source.synthesize(line, 1.0)
    except (ConfigError, DataError) as error:
        pytest.skip(str(error))
    assert split_of(line.text) == "val"
    power = np.square(speech.waveform)

    def mean(symbols: str) -> float:
        spans = [(start, end) for symbol, start, end in speech.phones if symbol in symbols]
        return float(
            np.mean(np.concatenate([power[int(a * SAMPLE_RATE_HZ) : int(b * SAMPLE_RATE_HZ)] for a, b in spans]))
        )

    assert mean("AIOWYiuæɑɒɔɛʌəɪʊ") > 2 * mean("ptksf")
    assert power[: int((speech.phones[0][1] - 0.05) * SAMPLE_RATE_HZ)].max() < 0.01
    assert power[int(speech.phones[-1][2] * SAMPLE_RATE_HZ) :].max() < 0.01


def test_blends_mix_two_voices_of_one_gender_and_language(tmp_path: Path) -> None:
    voices = ["af_anna", "af_beth", "am_carl", "bf_dora", "bf_ella", "am_finn"]
    named = blends(voices, 10)
    assert sorted(named) == sorted(set(named))
    assert blends(voices, 2) == named[:2]
    assert {"".join(c for c in name if not c.isdigit()) for name in named} == {
        "af_anna+af_beth",
        "am_carl+am_finn",
        "bf_dora+bf_ella",
    }
    (tmp_path / "voices").mkdir()
    tables = {name: np.random.default_rng(i).normal(size=(5, 1, 256)) for i, name in enumerate(voices)}
    for name, table in tables.items():
        table.astype(np.float32).tofile(tmp_path / "voices" / f"{name}.bin")
    mixed = voice_style(tmp_path, "af_anna35+af_beth65", 3)
    np.testing.assert_allclose(mixed, 0.35 * tables["af_anna"][3] + 0.65 * tables["af_beth"][3], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(voice_style(tmp_path, "am_carl", 2), tables["am_carl"][2].astype(np.float32))
