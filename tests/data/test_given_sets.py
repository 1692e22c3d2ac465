"""Other people's sets: each layout, made here, gives the clips, words and facts that it says."""

import csv
import json
from fractions import Fraction

import numpy as np
import pytest

from uniavgen.apps.cli import main
from uniavgen.data.given_sets import find_given_clips, open_given_set
from uniavgen.data.sources import open_sources
from uniavgen.data_engine.given import given_at
from uniavgen.data_engine.source import find_sources
from uniavgen.errors import DataError
from uniavgen.media.audio import write_wav
from uniavgen.media.mux import write_clip
from uniavgen.timebase import Timebase

RATE_HZ, FPS = 24_000, 16
TIMING = Timebase().clip(17)


def _video(path, seconds=1.5, seed=0):
    """Frame k is as bright as 10 k, its left half white; the sound of second k is k + 1 tenths loud."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * FPS)
    frames = np.zeros((count, 32, 64, 3), np.uint8)
    frames[:] = (np.arange(count) * 10 % 250)[:, None, None, None]
    frames[:, :, :32] = 255
    loudness = 0.1 * (1 + np.arange(count * RATE_HZ // FPS) // RATE_HZ)
    tone = np.sin(np.arange(len(loudness)) * (0.2 + 0.01 * seed))
    write_clip(path, frames, Fraction(FPS), (loudness * tone).astype(np.float32), RATE_HZ, {})
    return path


def _words(sample):
    return [(word.text, word.start_s, word.end_s) for word in sample.words]


def test_clips_with_plain_subtitle_and_json_transcripts_are_samples(tmp_path):
    for seed, name in enumerate(("a.one", "sub/b", "sub/c", "sub/d")):
        _video(tmp_path / f"{name}.mp4", seed=seed)
    (tmp_path / "a.one.txt").write_text("Hello there.\n")
    subtitles = (
        "1\n00:00:00,000 --> 00:00:00,500\n<i>One</i> two\n\n2\n00:00:00,500 --> 00:00:01,000\nOne two\nthree.\n"
    )
    (tmp_path / "sub" / "b.srt").write_text(subtitles)
    facts = {"text": "So it is", "caption": "A man.", "Speaker ID": 7, "license": "CC0-1.0", "language": "en"}
    times = (("So", 0.1, 0.2), (" it", 0.2, 0.3), ("is", 0.3, 0.5))
    facts["segments"] = [{"text": "So it is", "words": [{"word": w, "start": a, "end": b} for w, a, b in times]}]
    (tmp_path / "sub" / "c.json").write_text(json.dumps(facts))
    source = open_sources([tmp_path], TIMING)
    assert source.keys == ("a_one", "sub/b", "sub/c", "sub/d")
    assert [source.read(key).text for key in source.keys[:3]] == ["Hello there.", "One two three.", "So it is"]
    sample = source.read("sub/c")
    assert (sample.caption, sample.speaker) == ("A man.", "7")
    assert _words(sample) == [("So", 0.1, 0.2), ("it", 0.2, 0.3), ("is", 0.3, 0.5)]
    assert sample.frames.shape == (17, 32, 64, 3)
    assert sample.facts["given"]["facts"] == {"licence": "CC0-1.0"}
    with pytest.raises(DataError, match=r"sub/d.mp4 gives no transcript of 'sub/d'"):
        source.read("sub/d")


def test_lrs_transcripts_have_words_in_small_letters(tmp_path):
    _video(tmp_path / "talk" / "00001.mp4")
    lines = "Text:  HE {NS} SAID SO\nConf:  5\nRef:  abcdefghijk\n\nFRAME  X Y W H\n000000 0.1 0.2 0.3 0.4\n\n"
    words = "WORD START END ASDSCORE\nHE 0.10 0.20 7.1\n{NS} 0.2 0.3 1.0\nSAID 0.30 0.55 6.0\nSO 0.60 0.90 5.5\n"
    (tmp_path / "talk" / "00001.txt").write_text(lines + words)
    _video(tmp_path / "talk" / "00002.mp4", seed=1)
    (tmp_path / "talk" / "00002.txt").write_text("Text:  AND THEN\nConf:  4\n")
    source = open_given_set(tmp_path, TIMING)
    sample = source.read("talk/00001")
    assert (sample.text, sample.speaker) == ("he said so", "abcdefghijk")
    assert _words(sample) == [("he", 0.1, 0.2), ("said", 0.3, 0.55), ("so", 0.6, 0.9)]
    assert source.read("talk/00002").text == "and then"


@pytest.mark.parametrize(("unit", "folder"), [(1000, "align/s1"), (1, "s1/align")])
def test_grid_alignments_are_found_by_speaker_in_either_unit(tmp_path, unit, folder):
    for seed, speaker in enumerate(("s1", "s2")):
        _video(tmp_path / speaker / "bbaf2n.mp4", seed=seed)
        place = tmp_path / folder.replace("s1", speaker)
        place.mkdir(parents=True)
        rows = [(0, 5, "sil"), (5, 10, "bin" if speaker == "s1" else "set"), (10, 20, "blue"), (20, 75, "sil")]
        (place / "bbaf2n.align").write_text("".join(f"{a * unit} {b * unit} {word}\n" for a, b, word in rows))
    source = open_given_set(tmp_path, TIMING)
    sample = source.read("s1/bbaf2n")
    assert (sample.text, sample.speaker) == ("bin blue", "s1")
    assert _words(sample) == [("bin", 0.2, 0.4), ("blue", 0.4, 0.8)]
    assert source.read("s2/bbaf2n").text == "set blue"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".json"])
def test_tables_name_columns_as_they_like(tmp_path, suffix):
    _video(tmp_path / "clips" / "a.mp4")
    _video(tmp_path / "clips" / "b.mp4", seed=1)
    write_wav(tmp_path / "b.wav", np.full(RATE_HZ, 0.5, np.float32), RATE_HZ)
    rows = [
        {"Video Path": "clips/a.mp4", "Speech": "Well, then", "Caption": "A man", "voice": "v.wav", "voice_text": "x"},
        {"Video Path": "b.mp4", "Speech": "Yes", "Caption": 'A "woman"', "audio": "b.wav", "speaker": "bob"},
        {"Video Path": "gone.mp4", "Speech": "No"},
    ]
    table = tmp_path / f"list{suffix}"
    if suffix == ".jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".json":
        table.write_text(json.dumps(rows))
    else:
        names = [*dict.fromkeys(name for row in rows for name in row)]
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    source = open_sources([table], TIMING)
    assert source.keys == ("clips/a", "b", "gone")
    first, second = source.read("clips/a"), source.read("b")
    assert (first.text, first.caption) == ("Well, then", "A man")
    assert first.facts["given"]["facts"]["voice_text"] == "x"
    assert (second.caption, second.speaker) == ('A "woman"', "bob")
    assert second.waveform.min() > 0.4
    with pytest.raises(DataError, match=r"list\.\w+ (line|clip) \d names gone.mp4, and no such file is in"):
        source.read("gone")


def test_times_of_talkvid_cut_the_named_part_of_a_local_video(tmp_path):
    _video(tmp_path / "videos" / "Title [Tr6MMsoWAog].mp4", seconds=3)
    link = "https://www.youtube.com/watch?v=Tr6MMsoWAog"
    row = {"id": "videovideoTr6MMsoWAog-scene1-scene1", "start-time": 1.0, "end-time": 2.5, "durations": "1.5s"}
    row |= {"info": {"Person ID": "597", "Video Link": link, "Language": "English"}, "description": "An older man."}
    (tmp_path / "list.json").write_text(json.dumps([{**row, "text": "so"}]))
    (clip,) = find_given_clips(tmp_path / "list.json")
    assert (clip.key, clip.start_s, clip.end_s, clip.speaker) == (row["id"], 1.0, 2.5, "597")
    assert (clip.caption, clip.language, clip.facts["source_url"]) == ("An older man.", "English", link)
    sample = open_given_set(tmp_path / "list.json", TIMING).read(clip.key)
    assert len(sample.waveform) == 1.5 * RATE_HZ
    assert abs(np.abs(sample.waveform[: RATE_HZ // 2]).max() - 0.2) < 0.03
    assert abs(int(sample.frames[0, 0, -1, 0]) - 160) < 8
    # Clips that were cut already bear the names of rows.
    _video(tmp_path / "cut" / f"{row['id']}.mp4", seconds=1.5, seed=1)
    (clip,) = find_given_clips(tmp_path / "list.json")
    assert (clip.video.parent.name, clip.start_s, clip.end_s) == ("cut", 0.0, None)


def test_boxes_of_celebv_and_speakervid_cut_the_picture(tmp_path):
    _video(tmp_path / "M2Ohb0FAaJU.mp4", seconds=2)
    box = {"top": 0.0, "bottom": 1.0, "left": 0.5, "right": 1.0}
    clip = {"ytb_id": "M2Ohb0FAaJU", "duration": {"start_sec": 0.5, "end_sec": 1.5}, "bbox": box, "text": "x"}
    (tmp_path / "celebv.json").write_text(json.dumps({"mete_info": {}, "clips": {"M2Ohb0FAaJU_1": clip}}))
    sample = open_given_set(tmp_path / "celebv.json", TIMING).read("M2Ohb0FAaJU_1")
    assert sample.frames.shape == (16, 32, 32, 3)
    assert sample.frames.max() < 255
    row = {"video_name": "M2Ohb0FAaJU_64x32_full_video", "start_seconds": 0.5, "end_seconds": 1.5}
    row |= {"bbox": [0.5, 0.0, 0.5, 0.5], "is_talking": 1, "transcript": "y"}
    (tmp_path / "merged_anno").mkdir()
    (tmp_path / "celebv.json").unlink()
    (tmp_path / "merged_anno" / "M2Ohb0FAaJU_0_1.json").write_text(json.dumps(row))
    sample = open_given_set(tmp_path, TIMING).read("M2Ohb0FAaJU_0_1")
    assert sample.frames.shape == (16, 16, 32, 3)
    pixels = {"video_id": "M2Ohb0FAaJU", "bbox": [32, 0, 32, 16], "width": 64, "height": 32, "text": "z"}
    (tmp_path / "pixels.jsonl").write_text(json.dumps(pixels))
    assert find_given_clips(tmp_path / "pixels.jsonl")[0].box == (0.5, 0.0, 1.0, 0.5)


def test_avspeech_tables_without_a_header_become_sources_with_times(tmp_path):
    _video(tmp_path / "abcdefghijk.mp4", seconds=2)
    (tmp_path / "avspeech.csv").write_text("abcdefghijk,0.5,1.5,0.4,0.3\nlostlostlos,1,2,0.5,0.5\n")
    with pytest.raises(DataError, match="gives no transcript of its 1 clips"):
        open_given_set(tmp_path / "avspeech.csv", TIMING)
    (source,), (lost,) = find_sources([tmp_path / "avspeech.csv"])
    assert source.path.name == "abcdefghijk.mp4"
    assert "names lostlostlos" in lost.reason
    assert given_at(source.given, 0.6, 1.4).key == "abcdefghijk-00000500"
    assert given_at(source.given, 1.4, 2.0) is None


def test_rights_and_transcripts_beside_sources_are_given(tmp_path):
    _video(tmp_path / "a.mp4")
    (tmp_path / "a.txt").write_text("Good day")
    _video(tmp_path / "b.mp4", seed=1)
    rows = [{"video": "b.mp4", "licence": "CC-BY-4.0"}, {"video": "b.mp4", "id": "b2", "opt_out": "yes"}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources, _ = find_sources([tmp_path / "a.mp4", tmp_path / "list.jsonl"])
    by_name = {source.path.name: source for source in sources}
    assert by_name["a.mp4"].given[0].text == "Good day"
    assert by_name["b.mp4"].rights.opt_out == "yes"
    assert [clip.key for clip in by_name["b.mp4"].given] == ["b", "b2"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", '{"picture": "x.png", "age": 3}\n', r"a.jsonl line 1 has the columns picture, age; expected video"),
        ("a.jsonl", '{"video": "v.mp4"}\n{"video": \n', r"a.jsonl line 2 is not JSON"),
        ("a.jsonl", '{"video": "v.mp4"}\n{"speech": "so"}\n', r"line 2 names no video; it has the columns speech"),
        ("a.csv", "video,start,end\nv.mp4,soon,3\n", r"a.csv line 2 has 'soon' as its start, expected seconds"),
        ("a.csv", "video,start,end\nv.mp4,3,2\n", r"a.csv line 2 ends at 2 s, and begins at 3 s"),
        ("a.csv", "video,speech\nv.mp4,Well, then\n", r"line 2 has 1 values too many for the columns video, speech"),
        ("a.csv", 'video,speech\nv.mp4,"Well', r"a.csv behind line 1 is no table"),
        ("a.csv", "video,speech\n", r"a.csv holds no rows"),
        ("a.csv", b"video\xff", r"a.csv is not UTF-8 text"),
        ("a.json", "[1]", r"a.json clip 1 is 1, expected an object"),
        ("a.json", '{"clips": 3}', r"expected a list of clips|expected video"),
        ("a.json", '[{"video": "v.mp4", "bbox": [1, 2]}]', r"a.json clip 1 has '\[1, 2\]' as its bbox, expected four"),
        ("a.json", '[{"video": "v.mp4", "bbox": [9, 9, 9, 9]}]', r"has a bbox in pixels, and says not how large"),
        ("a.json", '[{"video": "v.mp4", "id": "x"}, {"video": "v.mp4", "id": "x"}]', r"the key 'x' occurs twice"),
        ("a.json", '[{"video": "w.mp4", "text": "so"}]', r"none of the 1 clips of .* is on this disk; .* names w"),
        ("a.json", '[{"video": ["v.mp4"]}]', r"as its video, expected a text"),
    ],
)  # fmt: skip
def test_bad_lists_are_one_sentence(tmp_path, name, content, sentence):
    _video(tmp_path / "v.mp4", seconds=0.25)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=sentence):
        open_given_set(tmp_path / name, TIMING)


def test_command_line_refuses_a_list_without_videos(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("picture,age\nx.png,3\n")
    for command in (
        ["prepare", "--data", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")],
        ["data", "run", str(tmp_path / "a.csv"), "--work", str(tmp_path / "work"), "--without", "transcript"],
    ):
        assert main(command) == 2
    assert capsys.readouterr().err.count("a.csv line 2 has the columns picture, age") >= 1
    assert not (tmp_path / "out").exists()
