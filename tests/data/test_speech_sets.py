"""`uniavgen prepare` on speech sets as they are published: each layout is made here, with what may be wrong in it."""

import json
from pathlib import Path

import pytest

from uniavgen.apps.cli import main
from uniavgen.data.features import FeatureSet
from uniavgen.data.sources import open_sources
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase

from .clips import speech, wav, write_tar

TIMING = Timebase().clip(17)


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def prepare(*data: Path, out: Path) -> int:
    sets = [word for folder in data for word in ("--data", str(folder))]
    return main(["prepare", *sets, "--out", str(out), "--num-frames", "17"])


def prepared(folder: Path) -> dict[str, tuple[str, str]]:
    """Text and speaker by key."""
    features = FeatureSet(folder)
    return {clip.key: (clip.text, clip.speaker) for clip in (features[i] for i in range(len(features)))}


def skipped(out: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    return {row["key"]: row["reason"] for row in rows}


def emilia(text, speaker="EN_B00000_S00000", **more) -> bytes:
    facts = {"id": "x", "wav": "mp3/x.mp3", "text": text, "duration": 1.2, "speaker": speaker, "language": "en"}
    return json.dumps({**facts, "dnsmos": 3.2677, "phone_count": 17} | more, ensure_ascii=False).encode()


@pytest.mark.parametrize("nested", [False, True])
def test_emilia_tars_of_audio_and_json_are_prepared_with_their_speakers(tmp_path, nested):
    bom = b"\xef\xbb\xbf"
    files = {
        "EN_B00000_S00000_W000000.mp3": speech("mp3", rate_hz=32_000),
        "EN_B00000_S00000_W000000.json": emilia(" First one.\r\n"),
        "EN_B00000_S00000_W000001.flac": speech("flac", rate_hz=44_100, layout="stereo"),
        "EN_B00000_S00000_W000001.json": bom + emilia("Second\u2019s one."),
        "EN_B00001_S00007_W000000.wav": wav(0.4),
        "EN_B00001_S00007_W000000.json": emilia("Third.", speaker="EN_B00001_S00007"),
        "EN_B00001_S00008_W000000.mp3": speech("mp3")[:50],
        "EN_B00001_S00008_W000000.json": emilia("Broken."),
        "EN_B00001_S00009_W000000.mp3": speech("mp3"),
        "EN_B00001_S00010_W000000.json": emilia("No sound."),
        "EN_B00001_S00011_W000000.mp3": speech("mp3"),
        "EN_B00001_S00011_W000000.json": emilia(None),
    }
    write_tar(tmp_path / "Emilia" / "EN" / "EN-B000000.tar", files)
    write_tar(
        tmp_path / "Emilia" / "EN" / "EN-B000001.tar", {"a_W0.mp3": speech("mp3"), "a_W0.json": emilia("Last.", None)}
    )
    data = tmp_path / "Emilia" if nested else tmp_path / "Emilia" / "EN"
    assert prepare(data, out=tmp_path / "out") == 0
    assert prepared(tmp_path / "out") == {
        "EN_B00000_S00000_W000000": ("First one.", "EN_B00000_S00000"),
        "EN_B00000_S00000_W000001": ("Second's one.", "EN_B00000_S00000"),
        "EN_B00001_S00007_W000000": ("Third.", "EN_B00001_S00007"),
        "a_W0": ("Last.", "a_W0"),
    }
    reasons = skipped(tmp_path / "out")
    assert [key[10:16] for key in reasons] == ["S00008", "S00009", "S00010", "S00011"]
    assert all(key in reason for key, reason in reasons.items())
    # An utterance that is shorter than the clip ends in silence.
    features = FeatureSet(tmp_path / "out")
    assert {features[i].mel.shape[0] for i in range(4)} == {TIMING.num_audio_tokens}


LIBRITTS = {
    "84/121123/84_121123_000007_000001.wav": wav(),
    "84/121123/84_121123_000007_000001.normalized.txt": "\ufeffDoctor Smith was\r\nthere.\r\n",
    "84/121123/84_121123_000007_000001.original.txt": "Dr. Smith was there.",
    "84/121123/84_121123.trans.tsv": "84_121123_000007_000001\tDr. Smith\tDoctor Smith\n",
    "84/121550/84_121550_000000_000000.wav": wav(channels=2),
    "84/121550/84_121550_000000_000000.original.txt": "Only the original.",
    "1272/128104/1272_128104_000003_000002.WAV": wav(),
    "1272/128104/1272_128104_000003_000002.normalized.txt": "Another one.",
    "1272/128104/._1272_128104_000003_000002.wav": b"\0\5\x16\7",
    "1272/128104/1272_128104_000004_000000.wav": wav(),
    "1272/128104/1272_128104_000005_000000.normalized.txt": "No sound.",
    "1272/128104/1272_128104_000006_000000.wav": wav()[:30],
    "1272/128104/1272_128104_000006_000000.normalized.txt": "Broken.",
    "1272/128104/1272_128104_000007_000000.wav": wav(),
    "1272/128104/1272_128104_000007_000000.normalized.txt": b"caf\xe9",
    "1272/128104/1272_128104_000008_000000.wav": wav(),
    "1272/128104/1272_128104_000008_000000.normalized.txt": " \n",
}


@pytest.mark.parametrize("above", ["", "dev-clean/"])
def test_libritts_folders_are_prepared_with_their_speakers(tmp_path, above):
    data = write(tmp_path / "LibriTTS", {above + name: content for name, content in LIBRITTS.items()})
    assert prepare(data, out=tmp_path / "out") == 0
    assert prepared(tmp_path / "out") == {
        f"{above}1272/128104/1272_128104_000003_000002": ("Another one.", "1272"),
        f"{above}84/121123/84_121123_000007_000001": ("Doctor Smith was there.", "84"),
        f"{above}84/121550/84_121550_000000_000000": ("Only the original.", "84"),
    }
    reasons = {key[-13:-7]: reason for key, reason in skipped(tmp_path / "out").items()}
    assert list(reasons) == ["000004", "000005", "000006", "000007", "000008"]
    words = ("no transcript", "no audio file", "cannot be decoded", "not UTF-8", "no transcript")
    assert all(word in reason for word, reason in zip(words, reasons.values(), strict=True))


@pytest.mark.parametrize("folder", ["", "84", "84/121123"])
def test_speaker_is_known_in_a_folder_of_one_speaker_or_chapter(tmp_path, folder):
    write(tmp_path / "set", LIBRITTS)
    source = open_sources([tmp_path / "set" / folder], TIMING)
    key = next(key for key in source.keys if key.endswith("84_121123_000007_000001"))
    assert source.read(key).speaker == "84"


def test_speaker_is_the_folder_where_there_are_no_chapters(tmp_path):
    write(
        tmp_path, {"ann/0.wav": wav(), "ann/0.normalized.txt": "Hi.", "bob/0.wav": wav(), "bob/0.original.txt": "Ho."}
    )
    source = open_sources([tmp_path], TIMING)
    assert {key: source.read(key).speaker for key in source.keys} == {"ann/0": "ann", "bob/0": "bob"}


def test_librispeech_chapters_are_prepared_with_their_speakers(tmp_path):
    chapter = "LibriSpeech/dev-clean/84/121123"
    texts = (" GO DO YOU HEAR", "  BUT IN LESS ", "", " NO SOUND")
    lines = "\ufeff" + "".join(f"84-121123-000{n}{text}\r\n" for n, text in enumerate(texts))
    write(
        tmp_path,
        {
            f"{chapter}/84-121123.trans.txt": lines,
            **{f"{chapter}/84-121123-000{n}.flac": speech("flac", rate_hz=16_000) for n in (0, 1, 2, 4)},
            "LibriSpeech/SPEAKERS.TXT": "84 | F | dev-clean",
        },
    )
    assert prepare(tmp_path / "LibriSpeech", out=tmp_path / "out") == 0
    key = "dev-clean/84/121123/84-121123-000"
    assert prepared(tmp_path / "out") == {f"{key}0": ("GO DO YOU HEAR", "84"), f"{key}1": ("BUT IN LESS", "84")}
    assert list(skipped(tmp_path / "out")) == [f"{key}2", f"{key}3", f"{key}4"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_ljspeech_table_is_prepared_as_one_speaker(tmp_path, line_end):
    rows = [
        'LJ001-0001|"Printing, in 1455|"Printing, in fourteen fifty-five',
        "LJ001-0002|Only the text.|",
        "LJ001-0003|Two columns.",
        "",
        "LJ001-0004||",
        "LJ001-0005|No sound.|No sound.",
        "LJ001-0006|Broken.|Broken.",
    ]
    audio = {f"wavs/LJ001-000{n}.wav": wav() for n in (1, 2, 3, 4, 7)}
    files = {"metadata.csv": "\ufeff" + line_end.join(rows), "README": "x", **audio, "wavs/LJ001-0006.wav": b"RIFF"}
    write(tmp_path / "LJSpeech-1.1", files)
    assert prepare(tmp_path / "LJSpeech-1.1", out=tmp_path / "out") == 0
    assert prepared(tmp_path / "out") == {
        "LJ001-0001": ('"Printing, in fourteen fifty-five', "LJSpeech-1.1"),
        "LJ001-0002": ("Only the text.", "LJSpeech-1.1"),
        "LJ001-0003": ("Two columns.", "LJSpeech-1.1"),
    }
    reasons = skipped(tmp_path / "out")
    assert list(reasons) == ["LJ001-0004", "LJ001-0005", "LJ001-0006", "wavs/LJ001-0007"]
    words = ("no transcript", "no audio file", "cannot be decoded", "no transcript")
    assert all(word in reason for word, reason in zip(words, reasons.values(), strict=True))


def test_audiofolder_table_is_prepared_with_its_speakers(tmp_path):
    rows = [
        "file_name,text,speaker,age",
        'train/0.001.mp3,"Yes, ""indeed"",\nand so on.",ann,40',
        "train/2.ogg,Second.,bob,",
        "train/3.ogg,Unknown.,,",
        "train/4.ogg,,ann,",
        "train/5.ogg,No sound.,ann,",
        "../6.ogg,Outside.,ann,",
        "/elsewhere/7.ogg,Elsewhere.,ann,",
    ]
    audio = {f"train/{n}.ogg": speech("ogg", rate_hz=48_000, layout="stereo") for n in (2, 3, 4, 8)}
    write(
        tmp_path / "set", {"metadata.csv": "\n".join(rows), "train/0.001.mp3": speech("mp3", rate_hz=22_050), **audio}
    )
    write(tmp_path, {"6.ogg": speech("ogg")})
    assert prepare(tmp_path / "set", out=tmp_path / "out") == 0
    assert prepared(tmp_path / "out") == {
        "train/0_001": ('Yes, "indeed", and so on.', "ann"),
        "train/2": ("Second.", "bob"),
        "train/3": ("Unknown.", "train/3"),
    }
    assert list(skipped(tmp_path / "out")) == ["train/4", "train/5", "../6", "/elsewhere/7", "train/8"]


@pytest.mark.parametrize("column", ["transcription", "sentence", "normalized_text", "Text"])
def test_table_in_each_part_of_a_set_names_the_files_beside_it(tmp_path, column):
    for part in ("train", "test"):
        write(
            tmp_path / part,
            {"metadata.csv": f"file_name,{column}\nclips\\a.flac,In {part}.\n", "clips/a.flac": speech()},
        )
    source = open_sources([tmp_path], TIMING)
    assert {key: source.read(key).text for key in source.keys} == {
        "test/clips/a": "In test.",
        "train/clips/a": "In train.",
    }


REFUSED = {
    "columns": ({"metadata.csv": "file_name,age\na.wav,3\n", "a.wav": wav()}, "file_name and text"),
    "empty": ({"metadata.csv": "", "a.wav": wav()}, "file_name and text"),
    "latin": ({"metadata.csv": b"a|caf\xe9|caf\xe9\n", "a.wav": wav()}, "not UTF-8"),
    "twice": ({"metadata.csv": "a|One.\na|Two.\n", "a.wav": wav()}, "'a' occurs twice"),
    "endless": ({"metadata.csv": 'file_name,text\na.wav,"' + "x" * 200_000, "a.wav": wav()}, "behind line 1"),
    "no transcripts": ({"a/a.wav": wav()}, "metadata.csv or transcripts"),
    "nothing": ({}, "metadata.csv or transcripts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folder_that_is_no_speech_set_is_one_sentence(tmp_path, capsys, case):
    files, message = REFUSED[case]
    (tmp_path / "set").mkdir()
    data = write(tmp_path / "set", files)
    assert prepare(data, out=tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_table_that_is_a_folder_or_missing_is_refused(tmp_path):
    with pytest.raises(DataError, match="no shards"):
        open_sources([tmp_path / "nowhere"], TIMING)


def test_folder_that_links_to_itself_is_read_once(tmp_path):
    write(tmp_path / "84" / "1", {"84_1_0.wav": wav(), "84_1_0.normalized.txt": "Hi."})
    (tmp_path / "84" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert open_sources([tmp_path], TIMING).keys == ("84/1/84_1_0",)


def test_published_sets_and_shards_are_prepared_into_one_folder(tmp_path):
    books = write(tmp_path / "LibriTTS", {"84/1/84_1_0.wav": wav(), "84/1/84_1_0.normalized.txt": "One."})
    table = write(tmp_path / "LJSpeech", {"metadata.csv": "a|Two.|Two.\n", "wavs/a.wav": wav()})
    shards = write_tar(tmp_path / "Emilia" / "0.tar", {"b.mp3": speech("mp3"), "b.json": emilia("Three.")})
    assert prepare(books, table, shards, out=tmp_path / "out") == 0
    assert [text for text, _ in prepared(tmp_path / "out").values()] == ["One.", "Two.", "Three."]


def test_utterance_longer_than_the_clip_is_cut_and_told(tmp_path, capsys):
    data = write(tmp_path / "LJSpeech", {"metadata.csv": "a|Two words.\nb|Short.\n", "a.wav": wav(2.0), "b.wav": wav()})
    assert prepare(data, out=tmp_path / "out") == 0
    assert "1 clips were cut and their words have no times" in capsys.readouterr().err
