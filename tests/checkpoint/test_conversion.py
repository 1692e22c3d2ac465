"""An output appears whole or not at all, and a run that was killed is continued to the same bytes."""

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
from tests.forks import CONTEXT, command, run

from uniavgen.apps.cli import main
from uniavgen.artifacts import checksum, partial_path
from uniavgen.checkpoint.conversion import MANIFEST, Conversion, ConvertedTensor, OutputFile, weight_files
from uniavgen.checkpoint.weights import read_weights
from uniavgen.errors import CheckpointError, OutputError


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
    weights = read_weights(tmp_path / "source.safetensors")
    tensors = [ConvertedTensor(name=name, source=source, dtype=source.dtype) for name, source in weights.items()]
    files = [OutputFile("a/config.json", b"{}"), *weight_files("b", "model", tensors, shard_bytes=120)]
    return Conversion(files=files, facts={"kind": "toy"})


def interrupt_after(count: int):
    """Returns a callback that interrupts the run when `count` files are written."""
    written = 0

    def on_bytes(_: int) -> None:
        nonlocal written
        written += 1
        if written == count:
            raise KeyboardInterrupt

    return on_bytes


def test_manifest_holds_length_and_checksum_of_every_other_file(conversion, tmp_path) -> None:
    import json

    counted = []
    assert conversion.run(tmp_path / "out", counted.append) == 0
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    files = content(tmp_path / "out")
    assert manifest["files"].keys() == files.keys() - {MANIFEST} == {file.path for file in conversion.files}
    for path, entry in manifest["files"].items():
        assert entry == {"bytes": len(files[path]), "sha256": checksum(tmp_path / "out" / path)}
    assert manifest["kind"] == "toy"
    assert sum(counted) == conversion.num_bytes
    assert not partial_path(tmp_path / "out").exists()


@pytest.mark.parametrize("count", range(1, 7))
def test_interrupted_conversion_goes_on_to_the_same_bytes(conversion, tmp_path, count) -> None:
    conversion.run(tmp_path / "whole", lambda _: None)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        conversion.run(out, interrupt_after(count))
    assert not out.exists()
    counted = []
    assert conversion.run(out, counted.append) == count
    assert sum(counted) == conversion.num_bytes
    assert content(out) == content(tmp_path / "whole")


def test_file_of_an_earlier_run_counts_only_where_it_is_unharmed(conversion, tmp_path) -> None:
    conversion.run(tmp_path / "whole", lambda _: None)
    out, partial = tmp_path / "out", partial_path(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        conversion.run(out, interrupt_after(4))
    shards = sorted((partial / "b").glob("*.safetensors"))
    changed = bytearray(shards[0].read_bytes())
    changed[-1] ^= 1
    shards[0].write_bytes(changed)
    (partial / "b" / "foreign.txt").write_text("left by something else")
    (partial / "b" / "link").symlink_to(tmp_path / "source.safetensors")
    assert conversion.run(out, lambda _: None) == 3
    assert content(out) == content(tmp_path / "whole")


def test_changed_source_begins_anew(conversion, tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        conversion.run(out, interrupt_after(3))
    os.utime(tmp_path / "source.safetensors", (1, 1))
    later = Conversion(files=conversion.files, facts=conversion.facts)
    assert later.plan != conversion.plan
    assert later.run(out, lambda _: None) == 0


def test_conversion_without_space_fails_before_the_first_byte(tmp_path) -> None:
    # One number that is said to be repeated: a small file of 16 TB.
    source = tmp_path / "source.pth"
    torch.save({"t": torch.zeros(1).expand(4 * 10**12)}, source)
    tensor = ConvertedTensor(name="t", source=read_weights(source)["t"], dtype=torch.float32)
    with pytest.raises(CheckpointError, match=r"needs 16000\.00 GB and .* has .* free; free some space"):
        Conversion(files=weight_files("", "model", [tensor], 10**9)).run(tmp_path / "out", lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["source.pth"]


@pytest.mark.parametrize("limit", [1, 60, 150, 400])
def test_conversion_on_a_full_disk_leaves_nothing(conversion, tmp_path, limit) -> None:
    out, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OutputError, match="could not be written: file too large; free some space"):
            conversion.run(out, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


def test_conversion_of_values_that_are_no_numbers_leaves_nothing(tmp_path) -> None:
    save_file({"a": torch.ones(3), "b": torch.tensor([float("nan")])}, tmp_path / "source.safetensors")
    weights = read_weights(tmp_path / "source.safetensors")
    tensors = [ConvertedTensor(name=name, source=source, dtype=source.dtype) for name, source in weights.items()]
    with pytest.raises(CheckpointError, match="holds values that are no numbers"):
        Conversion(files=weight_files("", "model", tensors, 4)).run(tmp_path / "sub" / "out", lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


def test_conversion_is_refused_while_another_process_writes(tmp_path) -> None:
    write_release(tmp_path / "source", joint(wide(ffn_width=20_000)))
    argv = ["convert", str(tmp_path / "source"), "--vocab", str(tmp_path / "vocab.txt"), "--shard-mb", "1"]
    words = [*argv, "--out", str(tmp_path / "out")]
    winner = CONTEXT.Process(target=command, args=words)
    winner.start()
    try:
        while winner.is_alive() and not partial_path(tmp_path / "out").exists():
            time.sleep(0.002)
        os.kill(winner.pid, signal.SIGSTOP)
        assert partial_path(tmp_path / "out").exists()
        loser = run(command, *words)
    finally:
        os.kill(winner.pid, signal.SIGCONT)
    assert loser.returncode == 2
    assert "another process is writing" in loser.stdout
    assert "space" not in loser.stdout
    winner.join()
    assert winner.exitcode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source", "vocab.txt"]


@pytest.mark.slow
def test_killed_conversion_goes_on_to_the_same_bytes(tmp_path) -> None:
    write_release(tmp_path / "source", joint(wide(ffn_width=20_000)))
    argv = ["convert", str(tmp_path / "source"), "--vocab", str(tmp_path / "vocab.txt"), "--shard-mb", "1"]
    assert main([*argv, "--out", str(tmp_path / "whole")]) == 0
    whole, out, draw = content(tmp_path / "whole"), tmp_path / "out", random.Random(7)
    assert len(whole) > 20
    reached = []
    for expected in (0, 5, 10):
        process = CONTEXT.Process(target=main, args=([*argv, "--out", str(out)],))
        process.start()
        while process.is_alive() and _files(partial_path(out)) < expected:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not out.exists()
        reached.append(_files(partial_path(out)))
    # The next run clears what was half written when its files were counted.
    assert reached[-1] > reached[0]
    assert reached[-1] > 5
    assert main([*argv, "--out", str(out)]) == 0
    assert content(out) == whole
    assert not partial_path(out).exists()


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*")) if folder.is_dir() else 0
