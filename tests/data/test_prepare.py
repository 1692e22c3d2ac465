"""`uniavgen prepare` on shards as other people write them: what can be used is prepared, the rest is listed."""

import json
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pytest

import uniavgen
from uniavgen.apps.cli import main
from uniavgen.data.features import FeatureSet
from uniavgen.data.sample import read_sample
from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase

from .clips import RATE_HZ, facts, mp4, wav, write_tar

NANO = Path(uniavgen.__file__).parent / "weights" / "nano"


def sample(text="Hello there.") -> dict[str, bytes]:
    return {"json": facts(text), "wav": wav()}


def files(**samples: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{key}.{part}": content for key, parts in samples.items() for part, content in parts.items()}


def prepare(data: Path | str, out: Path, *more: str) -> int:
    return main(["prepare", "--data", str(data), "--out", str(out), "--num-frames", "17", *more])


def skipped(out: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    return {row["key"]: row["reason"] for row in rows}


def red_levels(folder: Path) -> list[int]:
    """Red of each decoded frame of the first sample."""
    frames = read_sample(ShardSet(folder), 0, Timebase()).frames
    assert frames is not None
    return [round(float(frame[..., 0].mean())) for frame in frames]


def test_frames_are_resampled_by_their_time_stamps(tmp_path):
    folder = write_tar(tmp_path / "a.tar", {"a.json": facts(), "a.wav": wav(), "a.mp4": mp4(33, fps=30)})
    levels = red_levels(folder)
    middles = [(k + Fraction(1, 2)) / 16 for k in range(len(levels))]
    assert len(levels) == 18
    assert np.abs(np.array(levels) - [20 + 5 * int(time * 30) for time in middles]).max() <= 3


def test_rotated_video_is_read_upright(tmp_path):
    parts = {"a.json": facts(), "a.wav": wav(), "a.mp4": mp4(3, size=(64, 48), rotation=90)}
    frames = read_sample(ShardSet(write_tar(tmp_path / "a.tar", parts)), 0, Timebase()).frames
    assert frames.shape == (3, 64, 48, 3)
    green = frames[0, ..., 1].astype(int)
    # The upper half is the left one after a quarter turn against the clock.
    assert green[:, :20].min() > 150
    assert green[:, 28:].max() < 50


def test_long_video_is_decoded_no_further_than_the_clip(tmp_path):
    parts = {"a.json": facts(), "a.wav": wav(), "a.mp4": mp4(40)}
    folder = write_tar(tmp_path / "a.tar", parts)
    assert len(read_sample(ShardSet(folder), 0, Timebase(), max_frames=17).frames) == 17


def test_transcript_is_the_txt_and_audio_the_videos_own(tmp_path):
    parts = {"a.txt": b"\xef\xbb\xbfHello there.\n", "a.mp4": mp4(17, with_sound=True)}
    clip = read_sample(ShardSet(write_tar(tmp_path / "a.tar", parts)), 0, Timebase())
    assert (clip.text, clip.caption, clip.speaker) == ("Hello there.", "", "a")
    assert len(clip.waveform) == pytest.approx(RATE_HZ * 17 / 16, abs=1100)
    assert np.abs(clip.waveform).max() > 0.5


def test_stereo_is_mixed_to_the_mean_of_its_channels(tmp_path):
    folder = write_tar(tmp_path / "a.tar", {"a.json": facts(), "a.wav": wav(channels=2)})
    clip = read_sample(ShardSet(folder), 0, Timebase())
    assert np.abs(clip.waveform).max() == pytest.approx(8000 / 32768 / 2, abs=0.002)


def test_folder_in_a_tar_belongs_to_the_key(tmp_path):
    named = {f"{folder}/0.{part}": content for folder in ("x", "y") for part, content in sample().items()}
    data = write_tar(tmp_path / "in" / "a.tar", named)
    assert prepare(data, tmp_path / "out") == 0
    stored = FeatureSet(tmp_path / "out")
    assert tuple(stored.index.keys) == ("x/0", "y/0")
    assert stored[1].text == "Hello there."


def test_extensions_in_capitals_are_parts(tmp_path):
    data = write_tar(tmp_path / "a.tar", {"./a.JSON": facts(), "./a.WAV": wav(), "./._a.wav": b"", "./README": b""})
    assert ShardSet(data).keys == ("a",)
    assert read_sample(ShardSet(data), 0, Timebase()).text == "Hello there."


@pytest.mark.parametrize("shards", [2, 1])
def test_key_that_occurs_twice_is_refused_before_anything_is_written(tmp_path, capsys, shards):
    if shards == 2:
        write_tar(tmp_path / "in" / "0.tar", files(a=sample(), b=sample()))
        data = write_tar(tmp_path / "in" / "1.tar", files(a=sample(), c=sample()))
    else:
        twice = [f"a.{part}" for part in sample()] * 2
        data = tmp_path / "in"
        write_tar(data / "0.tar", files(b=sample()))
        _write_twice(data / "1.tar", twice)
    assert prepare(data, tmp_path / "out") == 2
    assert "give every sample a key of its own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _write_twice(path: Path, names: list[str]) -> None:
    import io
    import tarfile

    with tarfile.open(path, "w") as tar:
        for name in names:
            content = sample()[name.rpartition(".")[2]]
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


BAD = {
    "null": {"json": b'{"text": null}', "wav": wav()},
    "number": {"json": b'{"text": 5}', "wav": wav()},
    "blank": {"json": facts("  "), "wav": wav()},
    "notext": {"json": b'{"caption": "x"}', "wav": wav()},
    "nojson": {"wav": wav()},
    "list": {"json": b"[]", "wav": wav()},
    "latin": {"json": b'{"text": "caf\xe9"}', "wav": wav()},
    "silent": {"json": facts()},
    "cut": {"json": facts(), "wav": wav()[:30]},
    "noise": {"json": facts(), "wav": bytes(range(256)) * 20},
    "nothing": {"json": facts(), "wav": b""},
    "words": {"json": facts(words=[["Hello", 0.5, 0.1], ["there.", 0.5, 0.9]]), "wav": wav()},
    "chinese": {"json": facts("\u4f60\u597d"), "wav": wav()},
}


def test_bad_samples_are_listed_with_a_reason_and_the_others_are_prepared(tmp_path, capsys):
    data = write_tar(tmp_path / "in" / "a.tar", files(first=sample(), **BAD, last=sample()))
    out = tmp_path / "out"
    assert prepare(data, out) == 0
    assert tuple(FeatureSet(out).index.keys) == ("first", "last")
    reasons = skipped(out)
    assert list(reasons) == list(BAD)
    assert all(key in reason for key, reason in reasons.items())
    assert f"{len(BAD)} samples are left out" in capsys.readouterr().err
    assert "'\u4f60' '\u597d'" in reasons["chinese"]


@pytest.mark.parametrize("content", [files(a=BAD["null"]), {}], ids=["bad", "empty"])
def test_data_without_a_usable_sample_is_refused(tmp_path, capsys, content):
    data = write_tar(tmp_path / "in" / "a.tar", content)
    assert prepare(data, tmp_path / "out") == 2
    assert "sample" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.tar"))


def test_transcripts_are_normalised_as_the_speech_of_requests(tmp_path):
    samples = {
        "typographic": sample("It\u2019s\u00a0fine \u2014 really\u2026"),
        "money": {
            "json": facts("It costs $5.", words=[["It", 0.1, 0.2], ["costs", 0.2, 0.4], ["$5.", 0.4, 1.0]]),
            "wav": wav(),
        },
    }
    data = write_tar(tmp_path / "in" / "a.tar", files(**samples))
    assert prepare(data, tmp_path / "out") == 0
    typographic, money = (FeatureSet(tmp_path / "out")[i] for i in range(2))
    assert typographic.text == "It's fine, really..."
    assert money.text == "It costs five dollars."
    assert [word.text for word in money.words] == money.text.split()
    assert (money.words[2].start_s, money.words[3].end_s) == (0.4, 1.0)
    assert money.words[2].end_s == money.words[3].start_s
    assert prepare(data, tmp_path / "verbatim", "--verbatim") == 0
    assert FeatureSet(tmp_path / "verbatim")[1].text == "It costs $5."


def test_transcript_of_a_longer_clip_ends_with_it(tmp_path):
    words = [["one", 0.1, 0.5], ["two", 0.6, 1.0], ["three", 1.1, 1.6]]
    data = write_tar(tmp_path / "in" / "a.tar", {"a.json": facts("one two three", words=words), "a.wav": wav(2.0)})
    assert prepare(data, tmp_path / "out") == 0
    assert FeatureSet(tmp_path / "out")[0].text == "one two"


def test_clips_of_another_size_are_left_out_on_every_run(tmp_path):
    clips = {key: {"json": facts(), "wav": wav(), "mp4": mp4(n, size=size)} for key, (n, size) in SIZES.items()}
    data = write_tar(tmp_path / "in" / "a.tar", files(**clips))
    for _ in range(2):
        assert prepare(data, tmp_path / "out", "--parts", str(NANO)) == 0
        reasons = skipped(tmp_path / "out")
        assert "96x64 px, the clips before are 64x64 px" in reasons["wide"]
        assert "multiples of 16 px" in reasons["odd"]
        assert "has 5 frames" in reasons["short"]
    assert [FeatureSet(tmp_path / "out")[i].key for i in range(2)] == ["square", "same"]


SIZES = {
    "odd": (17, (60, 64)),
    "square": (17, (64, 64)),
    "wide": (17, (96, 64)),
    "same": (18, (64, 64)),
    "short": (5, (32, 32)),
}


def test_training_refuses_transcripts_that_its_model_cannot_say(tmp_path, capsys):
    data = write_tar(tmp_path / "in" / "a.tar", files(a=sample("Hello \u00e9l\u00e8ve."), b=sample()))
    vocabulary = tmp_path / "vocab.txt"
    letters = [chr(code) for code in range(0x20, 0x7F) if chr(code) not in "{}"]
    vocabulary.write_text("\n".join([*letters, "\u00e9", "\u00e8"]) + "\n", encoding="utf-8")
    assert prepare(data, tmp_path / "out", "--vocab", str(vocabulary)) == 0
    command = ["train", "-c", "nano/stage1", "--data", str(tmp_path / "out"), "--out", str(tmp_path / "run")]
    assert main([*command, "--device", "cpu", "-s", "data.num_frames=17", "-s", "train.batch_size=2"]) == 2
    message = capsys.readouterr().err
    assert "1 of 2 clips" in message
    assert "first 'a'" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b"{", b'{"num_frames": NaN}'])
def test_damaged_settings_of_features_are_one_sentence(tmp_path, capsys, content):
    data = write_tar(tmp_path / "in" / "a.tar", files(a=sample()))
    assert prepare(data, tmp_path / "out") == 0
    (tmp_path / "out" / "features.json").write_bytes(content)
    assert prepare(data, tmp_path / "out") == 2
    assert "features.json" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--num-frames", "99999999999997"), ("--limit", "-1"), ("--device", "tpu")])
def test_options_out_of_range_are_refused(tmp_path, option):
    data = write_tar(tmp_path / "in" / "a.tar", files(a=sample()))
    assert prepare(data, tmp_path / "out", *option) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["gzip", "link", "pipe", "outside"])
def test_tar_of_another_kind_is_read_or_refused(tmp_path, name):
    import gzip
    import os
    import tarfile

    path = tmp_path / "a.tar"
    if name == "pipe":
        os.mkfifo(path)
    elif name == "outside":
        write_tar(path, {"../../a.json": facts()})
    else:
        write_tar(path, files(a=sample()))
    if name == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    if name == "link":
        with tarfile.open(path, "a") as tar:
            header = tarfile.TarInfo("b.wav")
            header.type, header.linkname = tarfile.LNKTYPE, "a.wav"
            tar.addfile(header)
        shards = ShardSet(tmp_path)
        assert shards.read(shards.positions["b"], "wav") == wav()
    else:
        with pytest.raises(DataError, match=r"gunzip|no regular file|leads out"):
            ShardSet(tmp_path)


def test_several_data_folders_are_prepared_one_after_the_other(tmp_path):
    first = write_tar(tmp_path / "first" / "a.tar", files(b=sample("One."), a=sample("Two.")))
    second = write_tar(tmp_path / "second" / "a.tar", files(c=sample("Three.")))
    out = tmp_path / "out"
    assert prepare(first, out, "--data", str(second / "a.tar")) == 0
    stored = FeatureSet(out)
    assert tuple(stored.index.keys) == ("b", "a", "c")
    assert [stored[i].text for i in range(3)] == ["One.", "Two.", "Three."]


def test_shards_of_a_store_are_prepared_as_those_of_a_folder(tmp_path, capsys):
    write_tar(tmp_path / "data" / "a.tar", files(a=sample(), b=sample("So high.")))
    store, url = fsspec.filesystem("memory"), f"memory://{tmp_path.name}"
    for file in (tmp_path / "data").iterdir():
        store.pipe(f"/{tmp_path.name}/{file.name}", file.read_bytes())
    assert prepare(tmp_path / "data", tmp_path / "local") == 0
    assert prepare(url, tmp_path / "remote") == 0
    contents = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("local", "remote")]
    assert contents[0] == contents[1]
    assert prepare(f"{url}/nothing", tmp_path / "none") == 2
    assert f"no shards (*.tar) in {url}/nothing" in capsys.readouterr().err


def test_limit_counts_over_all_data_folders(tmp_path):
    first = write_tar(tmp_path / "first" / "a.tar", files(a=sample(), b=sample()))
    second = write_tar(tmp_path / "second" / "a.tar", files(c=sample(), d=sample()))
    assert prepare(first, tmp_path / "out", "--data", str(second), "--limit", "3") == 0
    assert tuple(FeatureSet(tmp_path / "out").index.keys) == ("a", "b", "c")


@pytest.mark.parametrize("is_same_folder", [True, False])
def test_key_in_two_data_folders_is_refused_before_anything_is_written(tmp_path, capsys, is_same_folder):
    first = write_tar(tmp_path / "first" / "a.tar", files(a=sample(), b=sample()))
    second = first if is_same_folder else write_tar(tmp_path / "second" / "a.tar", files(c=sample(), b=sample()))
    assert prepare(first, tmp_path / "out", "--data", str(second)) == 2
    message = capsys.readouterr().err
    assert "is named twice" in message if is_same_folder else f"'b' is in {first} and in {second}" in message
    assert not (tmp_path / "out").exists()


def test_data_without_a_usable_sample_leaves_nothing(tmp_path, capsys):
    data = write_tar(tmp_path / "in" / "a.tar", files(**BAD))
    assert prepare(data, tmp_path / "deep" / "out") == 2
    assert "none of the 13 samples" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_speech_id_that_leads_out_of_its_folder_is_refused(tmp_path, capsys):
    line = json.dumps({"id": "../a", "text": "Hi.", "voice": "x", "phones": [["a", 0, 0.2]]})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "index.jsonl").write_text(line + "\n")
    assert prepare(tmp_path / "in", tmp_path / "out") == 2
    assert "has the id '../a'" in capsys.readouterr().err


def lengths_and_grids(out: Path) -> dict[str, tuple[int, ...]]:
    """Audio tokens, latent frames, and height and width of the latents."""
    features = FeatureSet(out)
    clips = (features[i] for i in range(len(features)))
    return {c.key: (c.mel.shape[0], *(() if c.latents is None else c.latents.shape[1:])) for c in clips}


SPOKEN = [["one", 0.1, 0.5], ["two", 0.6, 1.0], ["three", 1.1, 1.6]]


def test_speech_gets_the_shortest_length_that_holds_it(tmp_path):
    clips = {f"{ms}ms": {"json": facts(), "wav": wav(ms / 1000)} for ms in (500, 1062, 1100, 2000, 2500)}
    # Silence behind the last word may be cut.
    clips["timed"] = {"json": facts("one two", words=SPOKEN[:2]), "wav": wav(2.5)}
    data = write_tar(tmp_path / "in" / "a.tar", files(**clips))
    out = tmp_path / "out"
    assert main(["prepare", "--data", str(data), "--out", str(out), "--num-frames", "33,17,25"]) == 0
    tokens = {n: Timebase().clip(n).num_audio_tokens for n in (17, 25, 33)}
    expected = {"500ms": 17, "1062ms": 17, "1100ms": 25, "2000ms": 33, "2500ms": 33, "timed": 17}
    assert lengths_and_grids(out) == {key: (tokens[frames],) for key, frames in expected.items()}


SIZED = {
    "long": (34, (64, 64)),
    "wide": (26, (96, 64)),
    "short": (17, (64, 64)),
    "shorter": (16, (64, 64)),
    "large": (17, (144, 96)),
    "odd": (17, (80, 60)),
}


def sized_clips(tmp_path: Path) -> Path:
    clips = {
        key: {"json": facts("one two three", words=SPOKEN), "wav": wav(2.2), "mp4": mp4(frames, size=size)}
        for key, (frames, size) in SIZED.items()
    }
    return write_tar(tmp_path / "in" / "a.tar", files(**clips))


def test_clips_with_video_get_the_longest_length_that_they_fill(tmp_path):
    data, out = sized_clips(tmp_path), tmp_path / "out"
    command = ["prepare", "--data", str(data), "--out", str(out), "--parts", str(NANO), "--num-frames", "17,25,33"]
    for _ in range(2):
        assert main([*command, "--size", "64x64,96x64"]) == 0
        reasons = skipped(out)
        assert list(reasons) == ["shorter", "large", "odd"]
        assert "has 16 frames, expected at least 17" in reasons["shorter"]
        assert "144x96 px, expected 64x64 or 96x64" in reasons["large"]
    tokens = {n: Timebase().clip(n).num_audio_tokens for n in (17, 25, 33)}
    expected = {"long": (tokens[33], 9, 8, 8), "wide": (tokens[25], 7, 8, 12), "short": (tokens[17], 5, 8, 8)}
    assert lengths_and_grids(out) == expected
    features = FeatureSet(out)
    assert [features[i].text for i in range(3)] == ["one two three", "one two", "one two"]
    assert main([*command, "--size", "64x64"]) == 2
    assert main([*command[:-1], "17,33", "--size", "64x64,96x64"]) == 2


def test_clips_are_cropped_to_the_size_of_the_nearest_aspect(tmp_path):
    data, out = sized_clips(tmp_path), tmp_path / "out"
    command = ["prepare", "--data", str(data), "--out", str(out), "--parts", str(NANO), "--num-frames", "17"]
    assert main([*command, "--size", "96x64,64x64,128x128", "--fit", "crop"]) == 0
    grids = {key: shape[2:] for key, shape in lengths_and_grids(out).items()}
    # 144x96 px is 3:2, as 96x64; 80x60 px is nearer to 3:2 than to 1:1.
    assert grids == {"long": (8, 8), "wide": (8, 12), "short": (8, 8), "large": (8, 12), "odd": (8, 12)}


def test_cropped_face_mask_follows_its_frames():
    from uniavgen.inference.resize import ResizeAndCrop, resize
    from uniavgen.workflows.encode_clips import _resized_mask

    mask = np.zeros((2, 60, 80), bool)
    mask[:, 10:40, 30:62] = True
    rule = ResizeAndCrop(width=48, height=48)
    frames = resize(np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1), rule)
    assert (_resized_mask(mask, rule) == (frames[..., 0] >= 128)).mean() > 0.98
    assert _resized_mask(mask, rule).shape == (2, 48, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "64x64"], "--parts"),
        (["--fit", "crop"], "--size"),
        (["--size", "64", "--parts", str(NANO)], "WIDTHxHEIGHT"),
        (["--size", "64x60", "--parts", str(NANO)], "multiples of 16 px, got 64x60"),
        (["--num-frames", "17,x"], "--num-frames"),
        (["--num-frames", ""], "--num-frames"),
        (["--num-frames", "17,18"], "1 + 4n"),
        (["--num-frames", "0"], "1 to 9601"),
    ],
)
def test_lengths_and_sizes_that_cannot_be_are_refused(tmp_path, capsys, options, message):
    data = write_tar(tmp_path / "in" / "a.tar", files(a=sample()))
    assert prepare(data, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.tar"))


def test_features_of_several_processes_are_those_of_one(tmp_path):
    """Also where the first clip decides the size of all."""
    data = sized_clips(tmp_path)
    for out, more in (("one", ()), ("two", ("--jobs", "2"))):
        assert prepare(data, tmp_path / out, "--parts", str(NANO), *more) == 0
    assert skipped(tmp_path / "two") == skipped(tmp_path / "one")
    for file in sorted((tmp_path / "one").iterdir()):
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()
