"""Folders of shards under kills, full disks and a second writer. Every moment is a process of its own."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uniavgen.data import shards
from uniavgen.data.shards import ShardSet, ShardWriter
from uniavgen.errors import OutputError

from .clips import facts, wav, write_tar

NUM_CLIPS = 9
PREPARE = """
import os, resource, signal, sys
from pathlib import Path
from uniavgen.config import load
from uniavgen.data import shards
from uniavgen.errors import UniAVGenError
from uniavgen.models.config import TransformerConfig
from uniavgen.workflows import prepare
from uniavgen.workflows.prepare import FeatureSettings, prepare_features

class SmallShards(shards.ShardWriter):
    def __init__(self, folder, _samples):
        super().__init__(folder, samples_per_shard=4)

prepare.ShardWriter = SmallShards
data, model = Path(sys.argv[1]), load(TransformerConfig, ["nano/model"])

def run(out, on_progress=lambda done, total: None):
    prepare_features([data], Path(out), model, FeatureSettings(num_frames=5), on_progress=on_progress)

def in_child(work):
    child = os.fork()
    if not child:
        try:
            work()
        except UniAVGenError as error:
            print(error, file=sys.stderr)
            os._exit(2)
        os._exit(0)
    return os.waitpid(child, 0)[1]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def killed_at_clip(out, moment):
    run(out, lambda done, total: done == moment and die())

def killed_at_rename(out, moment):
    count, replace = 0, Path.replace
    def counted(self, target):
        nonlocal count
        count += 1
        if count == moment:
            die()
        return replace(self, target)
    Path.replace = counted
    run(out)
"""
KILLS = (
    PREPARE
    + """
whole = Path(sys.argv[2])
assert in_child(lambda: run(whole)) == 0
for kind, moments in ((killed_at_clip, (1, 4, 5, 8)), (killed_at_rename, (1, 2, 3, 4, 5, 6))):
    for moment in moments:
        out = whole.with_name(f"{kind.__name__}-{moment}")
        assert in_child(lambda: kind(out, moment)) == signal.SIGKILL, (kind, moment)
        assert in_child(lambda: run(out)) == 0
"""
)
# What libraries warn of is not shown on the command line either.
FULL = (
    "import logging; logging.disable(logging.WARNING)"
    + PREPARE
    + """
for size in (0, 10, 100, 500, 1000, 2000, 8000, 16000, 20000, 30000):
    def with_full_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        run(Path(sys.argv[2]) / str(size))
    assert os.waitstatus_to_exitcode(in_child(with_full_disk)) == 2, size
"""
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    files = {f"clip{i}.{part}": content for i in range(NUM_CLIPS) for part, content in _sample(i).items()}
    return write_tar(tmp_path_factory.mktemp("data") / "a.tar", files)


def _sample(i: int) -> dict[str, bytes]:
    # One of them cannot be used.
    return {"json": b"{}" if i == 2 else facts(f"Number {i}."), "wav": wav(0.4)}


def run_script(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.slow
def test_killed_prepare_goes_on_to_the_same_bytes(data, tmp_path):
    result = run_script(KILLS, data, tmp_path / "whole")
    assert result.returncode == 0, result.stderr
    whole = content(tmp_path / "whole")
    assert sorted(whole) == [
        "features.json",
        "index.safetensors",
        *(f"shard-{number:06d}.{part}" for number in range(2) for part in ("npz", "tar")),
        "skipped.jsonl",
    ]
    others = [folder for folder in tmp_path.iterdir() if folder.is_dir() and folder.name != "whole"]
    assert len(others) == 10
    for folder in others:
        assert content(folder) == whole, folder.name


@pytest.mark.slow
def test_full_disk_is_one_sentence_and_leaves_no_part_of_a_file(data, tmp_path):
    result = run_script(FULL, data, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 10
    assert result.stderr.count("free some space") == 10
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {
        "features.json",
        "index.safetensors",
        "unfinished.json",
        *(f"shard-000000.{part}" for part in ("npz", "tar")),
    }


def test_second_writer_is_refused_and_harms_nothing(tmp_path):
    out, held = tmp_path / "out", os.pipe()
    child = os.fork()
    if not child:
        with ShardWriter(out) as writer:
            writer.write("first", {"json": b"{}"})
            os.write(held[1], b"!")
            time.sleep(60)
        os._exit(0)
    os.read(held[0], 1)
    with pytest.raises(OutputError, match="another process is writing"), ShardWriter(out):
        pytest.fail("two processes write one folder")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # A killed process holds nothing, and what it had not finished is no part of the folder.
    with ShardWriter(out) as writer:
        assert writer.keys == set()
        writer.write("second", {"json": b"{}"})
    assert ShardSet(out).keys == ("second",)
    assert sorted(path.name for path in out.iterdir()) == ["shard-000000.npz", "shard-000000.tar"]


def test_interrupted_writer_fills_its_last_shard_up(tmp_path):
    keys = [f"clip{i}" for i in range(10)]
    for folder, runs in ((tmp_path / "once", [10]), (tmp_path / "often", [1, 2, 5, 6, 10])):
        for stop in runs:
            with ShardWriter(folder, 4) as writer:
                for key in keys[:stop]:
                    if key not in writer.keys:
                        writer.write(key, {"json": key.encode()})
    assert content(tmp_path / "often") == content(tmp_path / "once")
    assert ShardSet(tmp_path / "often").keys == tuple(keys)


def test_shard_that_holds_many_bytes_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)
    for folder, stops in ((tmp_path / "once", [7]), (tmp_path / "often", range(1, 8))):
        for stop in stops:
            with ShardWriter(folder) as writer:
                for i in range(len(writer.keys), stop):
                    writer.write(f"clip{i}", {"json": bytes(10 + 20 * i)})
    assert [shard.keys for shard in ShardSet(tmp_path / "once").shards] == [
        ("clip0", "clip1", "clip2", "clip3"),
        ("clip4", "clip5"),
        ("clip6",),
    ]
    assert content(tmp_path / "often") == content(tmp_path / "once")


def test_writer_takes_the_number_after_the_last_shard(tmp_path):
    for number in range(2):
        with ShardWriter(tmp_path, 1) as writer:
            writer.write(f"clip{number}", {"json": b"{}"})
    for path in tmp_path.glob("shard-000000.*"):
        path.unlink()
    with ShardWriter(tmp_path, 1) as writer:
        writer.write("clip2", {"json": b"{}"})
    assert ShardSet(tmp_path).keys == ("clip1", "clip2")


def test_link_under_the_name_of_a_shard_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-000000.npz").symlink_to(victim)
    with ShardWriter(out) as writer:
        writer.write("a", {"json": b"{}"})
    assert victim.read_bytes() == b"precious"
