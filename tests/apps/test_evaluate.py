"""`uniavgen prompts` and `evaluate`, from the shell's side."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from uniavgen.apps.cli import main
from uniavgen.data.shards import ShardSet, ShardWriter
from uniavgen.evaluation.prompts import read_prompts

from .rendered import write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("rendered"), 2)


@pytest.fixture(scope="module")
def prompts(shards, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    assert main(["prompts", "shards", "--data", str(shards), "--out", str(folder)]) == 0
    return folder / "prompts.jsonl"


def test_set_of_rendered_clips_has_everything_a_task_may_need(prompts):
    first, second = read_prompts(prompts).prompts
    assert {*first.files()} == {"image", "audio", "video", "voice", "truth"}
    assert (first.speech, first.caption, first.emotion, first.split) == (
        "open and close",
        "a bar speaks",
        "calm",
        "shaded",
    )
    assert (first.voice, second.voice) == (second.audio, first.audio)


def test_prompt_set_rendered_again_changes_nothing(shards, prompts):
    before = {path: path.stat().st_mtime_ns for path in prompts.parent.rglob("*.*") if path != prompts}
    text = prompts.read_text()
    assert main(["prompts", "shards", "--data", str(shards), "--out", str(prompts.parent)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert prompts.read_text() == text


@pytest.mark.parametrize(
    ("part", "content", "expected"),
    [
        ("json", b"{", "'0001.json' is not JSON"),
        ("json", b"{}", "'0001.json' has 'None' as its text, expected a text"),
        ("json", b'{"text": " ", "caption": "", "speaker": ""}', "'0001.json' has an empty text"),
        ("json", b'{"text": "Hi.", "caption": 5, "speaker": ""}', "has '5' as its caption"),
        ("json", b'{"text": "Hi.", "caption": "", "speaker": "", "age": "old"}', "has 'old' as its age"),
        ("json", b'{"text": "\\ud83d", "caption": "", "speaker": ""}', "half of a surrogate pair in its text"),
        ("npz", b"PK\x03\x04", "'0001.npz' is damaged"),
        ("mp4", b"\0" * 500, "'0001.mp4'"),
        ("flac", b"", "'0001.flac'"),
    ],
)
def test_damaged_clip_leaves_no_half_of_a_set(shards, tmp_path, capsys, part, content, expected):
    source = ShardSet(shards)
    with ShardWriter(tmp_path / "damaged") as writer:
        for number, key in enumerate(source.keys):
            parts = {name: source.read(number, name) for name in source.parts(number)}
            writer.write(key, parts | {part: content} if number == 1 else parts)
    assert main(["prompts", "shards", "--data", str(tmp_path / "damaged"), "--out", str(tmp_path / "set")]) == 2
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_evaluate_generates_measures_resumes_and_is_deterministic(model, prompts, tmp_path, capsys):
    sampling = "--steps 1 --guidance none --num-frames 17 --device cpu --chance"
    command = f"evaluate --prompts {prompts} --generate {model} --metrics truth,sync {sampling}"
    command += " --task joint,animation,reconstruction"
    assert main([*command.split(), "--out", str(tmp_path / "a")]) == 0
    data = json.loads((tmp_path / "a" / "report.json").read_text())
    generated = [f"{model.name}/{kind}" for kind in ("joint", "animation", "reconstruction")]
    assert [*data["systems"]] == [*generated, *(f"{name} (chance)" for name in generated)]
    assert {*data["systems"][generated[1]]["metrics"]["face_mask_iou"]} == {"mean", "low", "high", "n"}
    assert data["systems"][generated[1]]["metrics"]["face_mask_iou"]["n"] == 2
    settings = data["systems"][generated[1]]["settings"]
    assert (settings["kind"], settings["steps"], len(settings["weights"])) == ("animation", 1, 64)
    assert "no predicted face mask" in data["systems"][generated[2]]["clips"][0]["not_measured"]["face_mask_iou"]
    assert "12 clips measured, 0 rows with a problem" in capsys.readouterr().out

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "clips").rglob("*.mp4")}
    files = {name: (tmp_path / "a" / name).read_bytes() for name in ("report.json", "report.md", "report.html")}
    assert len(before) == 6
    assert main([*command.split(), "--out", str(tmp_path / "a")]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {name: (tmp_path / "a" / name).read_bytes() for name in files} == files

    next(iter(before)).unlink()
    assert main([*command.split(), "--out", str(tmp_path / "a")]) == 0
    assert {path: path.stat().st_mtime_ns for path in [*before][1:]} == dict([*before.items()][1:])
    assert {name: (tmp_path / "a" / name).read_bytes() for name in files} == files

    assert main([*command.split(), "--out", str(tmp_path / "a"), "--seed", "7"]) == 2
    assert "another seed" in capsys.readouterr().err


def _line(prompts: Path, **changes) -> str:
    """The first prompt of a set as a line of a file elsewhere."""
    line = json.loads(prompts.read_text().splitlines()[0])
    named = ("image", "audio", "video", "voice", "truth")
    moved = {key: str(prompts.parent / value) if key in named else value for key, value in line.items()} | changes
    return json.dumps({key: value for key, value in moved.items() if value}) + "\n"


def test_evaluate_generates_all_five_tasks(model, prompts, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(_line(prompts))
    sampling = "--steps 1 --guidance none --num-frames 17 --device cpu"
    command = f"evaluate --prompts {file} --generate {model} --metrics face_mask --task all {sampling}"
    assert main([*command.split(), "--out", str(tmp_path / "out")]) == 0
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(data["systems"]) == 5
    assert [system["clips"][0]["problem"] for system in data["systems"].values()] == [""] * 5


def test_prompt_that_lacks_what_a_task_needs_is_a_row_with_its_reason(model, prompts, tmp_path):
    lacking = tmp_path / "prompts.jsonl"
    lacking.write_text(_line(prompts, voice="", voice_text="") + '{"id": "none", "speech": "Hi"}\n')
    command = f"evaluate --prompts {lacking} --generate {model} --metrics truth --task animation --steps 1"
    command += f" --guidance none --num-frames 17 --device cpu --out {tmp_path / 'out'}"
    assert main(command.split()) == 0
    (system,) = json.loads((tmp_path / "out" / "report.json").read_text())["systems"].values()
    assert system["counts"] == {"rows": 2, "measured": 1, "problems": 1}
    assert "it could not be made: the prompt has no image, which 'animation' needs" in system["clips"][1]["problem"]


def test_evaluate_measures_clips_of_several_systems(prompts, tmp_path, capsys):
    truth = prompts.parent / "truth"
    other = tmp_path / "other"
    other.mkdir()
    (other / "0000.mp4").symlink_to(truth / "0000.mp4")
    command = f"evaluate mine={truth} {other} --prompts {prompts} --metrics motion --out {tmp_path / 'out'}"
    assert main(command.split()) == 0
    assert "3 clips measured, 1 rows with a problem" in capsys.readouterr().out
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [*data["systems"]] == ["mine", "other"]
    assert {row["metric"] for row in data["comparisons"]} == {"motion"}
    assert "UniAVGen" in data["published"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--prompts none.jsonl", "none.jsonl cannot be read"),
        ("--metrics beauty", "there is no metric 'beauty'"),
        ("--weights whisper=none", "there are no weights none for whisper"),
        ("--weights nose=none", "there is no network 'nose'"),
        ("--weights whisper", "--weights is NAME=PATH"),
        ("--assets none", "no folder of assets"),
        ("--metrics dynamic_degree --assets .", "none of these metrics can be computed here"),
        ("--metrics judge --judge ftp://x", "begins with http"),
        ("--published table9", "no published rows 'table9'"),
        ("--device abacus", "there is no device"),
        ("--generate nowhere", "there is no model"),
        ("--generate nano --task singing", "there is no task 'singing'"),
        ("other=none", "there is no folder none"),
        ("elsewhere", "two systems are called|no folder elsewhere"),
    ],
)
def test_evaluate_refuses_bad_options_in_one_sentence(change, words, prompts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = f"evaluate mine={prompts.parent / 'truth'} --prompts {prompts} --metrics face_mask --out report {change}"
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert re.search(words, error)
    assert "Traceback" not in error
    assert not (tmp_path / "report" / "report.json").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("prompts grid --out set", "'grid' needs --data"),
        ("prompts world --data . --out set", "takes no --data"),
        ("prompts grid --data . --out set", "holds no SPEAKER/CODE file"),
        ("prompts shards --data . --out set", "no shards"),
        ("evaluate --prompts p.jsonl --out report", "there is nothing to measure"),
    ],
)
def test_prompts_refuses_bad_options_in_one_sentence(command, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert words in capsys.readouterr().err


def test_bad_prompt_lines_are_rows_and_the_rest_is_measured(prompts, tmp_path, capsys):
    bad = [b"[" * 5000, b'{"id": "\\ud800"}', b'{"id": "x", "image": "' + b"a" * 5000 + b'"}', b"\xff\xfe"]
    file = prompts.parent / "some_bad.jsonl"
    file.write_bytes(b"\n".join([bad[0], prompts.read_bytes().strip(), *bad[1:]]))
    command = f"evaluate mine={prompts.parent / 'truth'} --metrics motion --prompts {file} --out {tmp_path / 'out'}"
    assert main(command.split()) == 0
    assert "2 clips measured, 4 rows with a problem" in capsys.readouterr().out
    file.write_bytes(b"\n".join(bad))
    assert main(command.split()) == 2
    assert "holds no prompt that can be used" in capsys.readouterr().err


def test_second_evaluation_into_the_same_folder_is_refused(prompts, tmp_path, capsys):
    out = tmp_path / "out"
    holder = "import sys; from pathlib import Path; from uniavgen.artifacts import exclusive_output"
    holder += "\nwith exclusive_output(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        command = f"evaluate mine={prompts.parent / 'truth'} --metrics motion --prompts {prompts} --out {out}"
        assert main(command.split()) == 2
        assert f"another process is writing {out}" in capsys.readouterr().err
        process.kill()
    assert main(command.split()) == 0
