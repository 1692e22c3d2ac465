"""An output appears whole or not at all, and a run that was stopped is gone on with to the same bytes."""

import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from made_up import joint, wide, write_release
from safetensors.torch import save_file

from uniavgen.apps.cli import main
from uniavgen.artifacts import checksum, partial_path
from uniavgen.checkpoint.conversion import MANIFEST, Conversion
from uniavgen.checkpoint.files import ConvertedTensor, TextFile, weight_files
from uniavgen.checkpoint.stores import read_pickled, read_safetensors
from uniavgen.errors import CheckpointError


def content(folder: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def conversion(tmp_path) -> Conversion:
    """Four small shards and a settings file."""
    state = {f"t{k}": torch.full((30,), float(k)) for k in range(4)}
    save_file(state, tmp_path / "source.safetensors")
    weights = read_safetensors([tmp_path / "source.safetensors"])
    tensors = [
        ConvertedTensor(name=name, shape=(30,), dtype=torch.float32, weights=weights, source_name=name)
        for name in weights.tensors
    ]
    files = [TextFile("a/config.json", b"{}"), *weight_files("b", "model", tensors, shard_bytes=120)]
    return Conversion(files=files, facts={"kind": "toy"})


class Stopped(BaseException):
    """A stop from outside."""


def stop_after(count: int):
    """A listener that stops at the `count`-th piece."""
    heard = 0

    def on_bytes(_: int) -> None:
        nonlocal heard
        heard += 1
        if heard == count:
            raise Stopped

    return on_bytes


def test_manifest_holds_length_and_checksum_of_every_other_file(conversion, tmp_path) -> None:
    import json

    counted = []
    assert conversion.run(tmp_path / "out", counted.append) == 0
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    found = content(tmp_path / "out")
    assert manifest["files"].keys() == found.keys() - {MANIFEST} == {file.path for file in conversion.files}
    for path, entry in manifest["files"].items():
        assert entry == {"bytes": len(found[path]), "sha256": checksum(tmp_path / "out" / path)}
    assert manifest["kind"] == "toy"
    assert sum(counted) == conversion.num_bytes == sum(entry["bytes"] for entry in manifest["files"].values())
    assert not partial_path(tmp_path / "out").exists()


@pytest.mark.parametrize("count", range(1, 11))
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(conversion, tmp_path, count) -> None:
    conversion.run(tmp_path / "whole", lambda _: None)
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        conversion.run(out, stop_after(count))
    assert not out.exists()
    assert not list(partial_path(out).rglob("*.tmp"))
    counted = []
    kept = conversion.run(out, counted.append)
    assert kept == count // 2  # A settings file is one piece, a shard two: its header and its tensor.
    assert sum(counted) == conversion.num_bytes
    assert content(out) == content(tmp_path / "whole")


def test_what_an_earlier_run_left_counts_only_where_it_is_unharmed(conversion, tmp_path) -> None:
    conversion.run(tmp_path / "whole", lambda _: None)
    out, partial = tmp_path / "out", partial_path(tmp_path / "out")
    with pytest.raises(Stopped):
        conversion.run(out, stop_after(8))
    shards = sorted((partial / "b").glob("*.safetensors"))
    changed = bytearray(shards[0].read_bytes())
    changed[-1] ^= 1
    shards[0].write_bytes(changed)
    (partial / "b" / "foreign.txt").write_text("left by something else")
    assert conversion.run(out, lambda _: None) == 3
    assert content(out) == content(tmp_path / "whole")


def test_another_plan_or_source_begins_anew(conversion, tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        conversion.run(out, stop_after(6))
    os.utime(tmp_path / "source.safetensors", (1, 1))
    later = Conversion(files=conversion.files, facts=conversion.facts)
    assert later.plan != conversion.plan
    assert later.run(out, lambda _: None) == 0


def test_a_full_disk_is_told_before_the_first_byte(tmp_path) -> None:
    # One number that is said to be repeated: a small file of 16 TB.
    source = tmp_path / "source.pth"
    torch.save({"t": torch.zeros(1).expand(4 * 10**12)}, source)
    weights = read_pickled(source, "it")
    tensor = ConvertedTensor(name="t", shape=weights.shapes["t"], dtype=torch.float32, weights=weights, source_name="t")
    with pytest.raises(CheckpointError, match=r"needs 16000\.00 GB and .* has .* free; free some space"):
        Conversion(files=weight_files("", "model", [tensor], 10**9)).run(tmp_path / "out", lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["source.pth"]


def test_a_disk_that_fills_up_keeps_what_is_complete(conversion, tmp_path) -> None:
    out, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    conversion.run(tmp_path / "whole", lambda _: None)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="could not be written: file too large; mend that and give the same"):
            conversion.run(out, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not out.exists()
    conversion.run(out, lambda _: None)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again_it_gives_the_same_bytes(tmp_path) -> None:
    write_release(tmp_path / "source", joint(wide(ffn_width=20_000)))
    argv = ["convert", str(tmp_path / "source"), "--vocab", str(tmp_path / "vocab.txt"), "--shard-mb", "1"]
    assert main([*argv, "--out", str(tmp_path / "whole")]) == 0
    whole, out, draw = content(tmp_path / "whole"), tmp_path / "out", random.Random(7)
    assert len(whole) > 20
    # A server imports everything once; each run is a process of its own, which signal 9 ends without any clean-up.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["uniavgen.apps.cli.convert", "uniavgen.checkpoint.published"])
    reached = []
    for wanted in (0, 5, 10):
        process = context.Process(target=main, args=([*argv, "--out", str(out)],))
        process.start()
        while process.is_alive() and _files(partial_path(out)) < wanted:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not out.exists()
        reached.append(_files(partial_path(out)))
    assert reached[-1] >= 10
    assert main([*argv, "--out", str(out)]) == 0
    assert content(out) == whole
    assert not partial_path(out).exists()


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*")) if folder.is_dir() else 0
