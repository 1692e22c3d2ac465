"""Outputs are whole, of one process at a time, under names nobody can guess; JSON errors say what is wrong."""

import io
import os
import random
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from uniavgen.artifacts import (
    atomic_file,
    atomic_folder,
    check_writable,
    decode_npz,
    exclusive_output,
    parse_json,
    read_json,
)
from uniavgen.errors import ConfigError, DataError, OutputError

_HOLDER = """
    import sys, time
    from pathlib import Path
    from uniavgen.artifacts import atomic_file, exclusive_output
    with {lock}(Path(sys.argv[1])) as partial:
        if partial is not None:
            partial.write_text("half")
        print("held", flush=True)
        time.sleep(600)
"""


def start_holder(path: Path, lock: str) -> subprocess.Popen[str]:
    """Starts a process that holds `path` until it is killed, and waits until it does."""
    script = textwrap.dedent(_HOLDER.format(lock=lock))
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("lock", ["atomic_file", "exclusive_output"])
def test_second_writer_of_an_output_is_refused(tmp_path, lock):
    path = tmp_path / "a.txt"
    path.write_text("old")
    process = start_holder(path, lock)
    try:
        with pytest.raises(OutputError, match="another process is writing"), atomic_file(path):
            pass
        with pytest.raises(OutputError, match="another process is writing"), exclusive_output(path):
            pass
        with atomic_file(tmp_path / "b.txt") as partial:
            partial.write_text("other outputs are free")
    finally:
        stop(process)
    assert path.read_text() == "old"
    with atomic_file(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_second_writer_of_a_folder_is_refused(tmp_path):
    process = start_holder(tmp_path / "out", "exclusive_output")
    try:
        with pytest.raises(OutputError, match="another process is writing"), atomic_folder(tmp_path / "out"):
            pass
    finally:
        stop(process)
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("new")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_lock_may_be_taken_again_by_its_process(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with exclusive_output(path), exclusive_output(path):
        with atomic_file(path) as partial:
            partial.write_text("new")
        with atomic_file(path) as partial:
            partial.write_text("newer")
    assert path.read_text() == "newer"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_files_that_killed_writers_left_are_removed(tmp_path):
    path = tmp_path / "a.txt"
    stop(start_holder(path, "atomic_file"))
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_file(path) as partial:
        partial.write_text("new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_planted_links_are_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "a.txt"
    victim.write_text("mine")
    with atomic_file(path) as partial:
        names = [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]
        taken = partial.name
    for name in {*names, f".a.{os.getpid()}.partial.txt", ".a.txt.partial"} - {taken}:
        (tmp_path / name).symlink_to(victim)
    with atomic_file(path) as partial:
        assert partial.name != taken
        partial.write_text("new")
    (tmp_path / ".folder.partial").symlink_to(tmp_path, target_is_directory=True)
    with atomic_folder(tmp_path / "folder") as partial:
        (partial / "victim").write_text("other")
    assert victim.read_text() == "mine"
    assert (path.read_text(), (tmp_path / "folder" / "victim").read_text()) == ("new", "other")


def test_forged_lock_file_deletes_nothing_else(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "sub" / "a.txt"
    victim.write_text("mine")
    with atomic_file(path):
        lock = next(file for file in path.parent.iterdir() if file.suffix == ".lock").name
    (path.parent / lock).write_text("../victim")
    with atomic_file(path) as partial:
        partial.write_text("new")
    assert victim.read_text() == "mine"


def test_new_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "a.txt") as partial:
            partial.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_names_of_the_greatest_length_work(tmp_path):
    for path in (tmp_path / ("\u4eba" * 80 + ".mp4"), tmp_path / ("n" * 251 + ".mp4")):
        check_writable(path, (".mp4",))
        with atomic_file(path) as partial:
            partial.write_text("new")
        assert path.read_text() == "new"
    with atomic_folder(tmp_path / ("n" * 255)) as partial:
        (partial / "a").write_text("new")
    with pytest.raises(OutputError, match="at most 255"):
        check_writable(tmp_path / ("\u4eba" * 84 + ".mp4"), (".mp4",))


def test_advice_to_free_space_is_for_full_disks_alone(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file exists; choose another place"), atomic_file(tmp_path / "file" / "a"):
        pass


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"[]", "holds a list"),
        (b'"a"', "holds a text"),
        (b"null", "holds null"),
        (b"1", "holds a number"),
        (b"{", "is not JSON"),
        (b'{"a": NaN}', r"is not JSON \(NaN is no number\)"),
        (b'{"a": "\xe9"}', r"is not UTF-8 text \(byte 7\)"),
        (b'{"a": ' + b"[" * 100_000, "is nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is not JSON"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_json_error_says_what_the_file_holds(tmp_path, content, problem):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{path} {problem}.*; write it anew$"):
        read_json(path, ConfigError, "write it anew")


@pytest.mark.parametrize(
    "place",
    [
        os.mkfifo,
        Path.touch,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nothing"),
        lambda path: path.symlink_to(path.name),
    ],
)
@pytest.mark.parametrize("name", ["out", ".out.partial"])
def test_folder_takes_the_place_of_anything_without_opening_it(tmp_path, place, name):
    place(tmp_path / name)
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "new"


@pytest.mark.parametrize("name", ["n" * 5000, "n/" * 5000 + "x"])
def test_output_under_a_name_too_long_is_one_sentence(tmp_path, name):
    with pytest.raises(OutputError, match="file name too long"), exclusive_output(tmp_path / name / "vae"):
        pass
    assert not [*tmp_path.iterdir()]


def test_json_with_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a":\r\n1}')
    assert read_json(path) == {"a": 1}
    assert parse_json(path.read_bytes(), "a line") == {"a": 1}


def test_json_is_read_from_regular_files_only(tmp_path):
    pipe, loop, device = tmp_path / "pipe", tmp_path / "loop", tmp_path / "device"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    device.symlink_to("/dev/zero")
    for path, problem in (
        (pipe, "is a pipe, expected a file"),
        (loop, "symbolic links"),
        (device, "is a device, expected a file"),
        (tmp_path, "is a folder, expected a file"),
        (tmp_path / "absent", "no such file"),
        (tmp_path / ("n" * 300), "file name too long"),
    ):
        with pytest.raises(DataError, match=problem):
            read_json(path)


def test_damaged_npz_files_are_one_sentence():
    stored, rng = io.BytesIO(), random.Random(0)
    np.savez_compressed(stored, x=np.arange(50.0))
    assert decode_npz(stored.getvalue(), "a.npz")["x"][49] == 49
    for _ in range(1000):
        damaged = bytearray(stored.getvalue())
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        # Some flipped bits change nothing that is read; all others are our error and none of the library's.
        with suppress(DataError):
            decode_npz(bytes(damaged), "a.npz")
        with pytest.raises(DataError, match=r"^a\.npz is damaged"):
            decode_npz(stored.getvalue()[: rng.randrange(len(damaged))], "a.npz")
    single = io.BytesIO()
    np.save(single, np.arange(3))
    with pytest.raises(DataError, match="a single array"):
        decode_npz(single.getvalue(), "a.npz")


@pytest.mark.parametrize("name", ["", ".", "..", "../here", "../../..", "/"])
def test_atomic_folder_refuses_to_replace_the_current_folder(tmp_path, monkeypatch, name):
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").write_text("kept")
    monkeypatch.chdir(here)
    with pytest.raises(OutputError), atomic_folder(Path(name)):
        pass
    assert (here / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
