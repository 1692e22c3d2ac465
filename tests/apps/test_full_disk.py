"""A full disk under `uniavgen evaluate`: one sentence, and whole files only."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.evaluation.builders import write_noise

from uniavgen.artifacts import parse_json

_ON_SMALL_DISKS = """
import json, subprocess, sys
from pathlib import Path
from uniavgen.apps.cli import main
disk, sizes, command = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
for size in sizes:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
    code = main([*command, "--out", str(disk / "report")])
    files = {str(path.relative_to(disk)): path.read_text("latin-1") for path in disk.rglob("*") if path.is_file()}
    print(json.dumps({"size": size, "code": code, "files": files}), file=sys.stderr)
    subprocess.run(["umount", disk], check=True)
"""


def _run_on_small_disks(folder: Path, sizes: list[str], command: list[str]) -> tuple[list[dict], str]:
    """Runs a command on file systems of these sizes; returns exit codes and files left, and all that was printed."""
    (folder / "disk").mkdir()
    script = [sys.executable, "-c", _ON_SMALL_DISKS, str(folder / "disk"), json.dumps(sizes), json.dumps(command)]
    done = subprocess.run(["unshare", "-rm", *script], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    runs = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"size"')]
    assert len(runs) == len(sizes), done.stderr
    return runs, done.stderr


@pytest.fixture
def prompts(inputs, tmp_path) -> Path:
    lines = [json.dumps({"id": name, "speech": "hi", "image": str(inputs["face.png"])}) for name in "ab"]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    return tmp_path / "prompts.jsonl"


def test_full_disk_while_clips_are_measured_is_one_sentence(prompts, tmp_path):
    (tmp_path / "clips").mkdir()
    for seed, name in enumerate("ab"):
        write_noise(tmp_path / "clips" / f"{name}.mp4", seed=seed)
    command = ["evaluate", f"mine={tmp_path / 'clips'}", "--prompts", str(prompts), "--metrics", "motion"]
    runs, printed = _run_on_small_disks(tmp_path, ["16k", "48k"], command)
    assert [run["code"] for run in runs] == [2, 2]
    assert printed.count("could not be written: no space left on device; free some space") == 2
    assert "Traceback" not in printed
    for run in runs:
        for name, text in run["files"].items():
            assert ".partial" not in name
            if name.endswith("scores.jsonl"):
                assert all(parse_json(line, name) for line in text.splitlines())


def test_full_disk_while_clips_are_generated_is_one_sentence(prompts, model, tmp_path):
    command = ["evaluate", "--generate", str(model), "--prompts", str(prompts), "--metrics", "motion"]
    command += ["--num-frames", "9", "--steps", "1", "--device", "cpu"]
    runs, printed = _run_on_small_disks(tmp_path, ["4k", "16k"], command)
    assert [run["code"] for run in runs] == [2, 2]
    assert printed.count("could not be written: no space left on device; free some space") == 2
    assert "nothing to measure" not in printed
    assert "Traceback" not in printed
    assert not [name for run in runs for name in run["files"] if ".partial" in name]
