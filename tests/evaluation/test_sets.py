"""Sets out of rendered clips, GRID and EMTD, on tiny made-up folders."""

import json
from fractions import Fraction

import numpy as np
import pytest

from uniavgen.errors import DataError
from uniavgen.evaluation.sets import emtd_prompts, finish_rendered, grid_prompts, grid_sentence
from uniavgen.media.audio import read_audio, write_wav
from uniavgen.media.image import read_image, write_image
from uniavgen.media.mux import read_metadata
from uniavgen.media.video import read_video

from .builders import write_noise


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("bbaf2n", "bin blue at f two now"),
        ("swiz9a", "set white in z nine again"),
        ("PGWAZP", "place green with a zero please"),
    ],
)
def test_sentence_of_a_grid_recording_is_in_its_name(code, sentence):
    assert grid_sentence(code) == sentence


def test_name_that_is_no_grid_code_is_refused():
    with pytest.raises(DataError, match="no name of a GRID recording"):
        grid_sentence("hello")


def test_grid_videos_meet_the_voices_of_other_speakers_in_turn(tmp_path):
    for folder, name in (("videos/s1", "bbaf2n"), ("videos/s1", "lrbs3p"), ("videos/s2", "pgbm8s")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        write_noise(tmp_path / folder / f"{name}.mp4")
    for speaker, name in (("s33", "swiz9a"), ("s34", "lbin4n")):
        write_wav(tmp_path / "references" / speaker / f"{name}.wav", np.zeros(12_000, np.float32), 24_000)
    prompts = grid_prompts(tmp_path)
    assert [prompt.id for prompt in prompts] == ["s1_bbaf2n", "s1_lrbs3p", "s2_pgbm8s"]
    assert [prompt.split for prompt in prompts] == ["s1", "s1", "s2"]
    assert [prompt.voice.parent.name for prompt in prompts] == ["s33", "s34", "s33"]
    assert prompts[1].voice_text == grid_sentence("lbin4n")
    assert prompts[1].speech == grid_sentence("lrbs3p")


def test_folder_that_is_no_grid_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="holds no SPEAKER/CODE file"):
        grid_prompts(tmp_path)


def test_emtd_gives_first_frames_and_audio(tmp_path):
    source, out = tmp_path / "emtd", tmp_path / "set"
    source.mkdir()
    write_noise(source / "one.mp4", seconds=1.5)
    write_noise(source / "two.mp4", seconds=0.5)
    (source / "two.txt").write_text("two\nwords\n")
    one, two = emtd_prompts(source, out, 17)
    assert (one.speech, two.speech) == ("", "two words")
    assert len(read_audio(one.audio, 24_000)) == 17 * 1500
    assert len(read_audio(two.audio, 24_000)) == pytest.approx(12_000, abs=1024)
    assert read_image(one.image).shape == (32, 32, 3)
    with pytest.raises(DataError, match="holds no clips"):
        list(emtd_prompts(tmp_path, out, 17))


def test_mismatched_clip_has_the_frames_of_its_clip_and_a_voice_that_cannot_be_its_own(tmp_path):
    people = {"a": ("male", 40, "sad"), "b": ("male", 30, "happy"), "c": ("female", 30, "happy")}
    for number, (key, (gender, age, mood)) in enumerate(people.items()):
        write_noise(tmp_path / "truth" / f"{key}.mp4", seed=number)
        sound = read_audio(tmp_path / "truth" / f"{key}.mp4", 24_000)
        write_wav(tmp_path / "truth" / f"{key}.wav", sound, 24_000)
        (tmp_path / "truth" / f"{key}.npz").touch()
        write_image(tmp_path / "images" / f"{key}.png", np.zeros((8, 8, 3), np.uint8))
        facts = {"gender": gender, "age": age, "mood": mood, "caption": "", "text": "", "speaker": key}
        (tmp_path / "truth" / f"{key}.json").write_text(json.dumps(facts))
    finish_rendered(tmp_path, [*people])
    twins = {path.stem: path for path in (tmp_path / "twins").iterdir()}
    assert {key: read_metadata(path)["sound"] for key, path in twins.items()} == {"a": "c", "c": "a"}
    clip, twin = (read_video(path, Fraction(16), rate_hz=24_000) for path in (tmp_path / "truth/a.mp4", twins["a"]))
    strange = read_audio(tmp_path / "truth" / "c.wav", 24_000)[: len(twin.waveform)]
    assert np.array_equal(clip.frames, twin.frames)
    assert np.corrcoef(strange, twin.waveform[: len(strange)])[0, 1] > 0.9
    assert abs(np.corrcoef(clip.waveform[: len(strange)], twin.waveform[: len(strange)])[0, 1]) < 0.1
