"""The standard streams of the command line: closed pipes, full disks, names and texts that are not UTF-8."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "import sys; from uniavgen.apps.cli import main; sys.exit(main())"]
needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def _run(arguments: list[str | bytes], **options) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], check=False, **{"stderr": subprocess.PIPE, **options})


@needs_full_device
@pytest.mark.parametrize("arguments", [["--version"], ["train", "-c", "nano/stage2", "--print-config"]])
def test_output_that_cannot_be_written_is_one_sentence(arguments):
    with Path("/dev/full").open("w") as full:
        done = _run(arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode().strip().splitlines() == [
        "uniavgen: what the command prints could not be written: no space left on device; print elsewhere"
    ]


@needs_full_device
def test_errors_that_cannot_be_printed_keep_their_exit_code():
    with Path("/dev/full").open("w") as full:
        assert _run(["sing"], stdout=full, stderr=full).returncode == 2


def test_pipe_that_nobody_reads_ends_the_command_silently():
    reading, writing = os.pipe()
    os.close(reading)
    done = _run(["train", "-c", "nano/stage2", "--print-config"], stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_streams_are_no_error():
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *COMMAND, "sing"], check=False)
    assert done.returncode == 2
    assert subprocess.run(["sh", "-c", '"$@" >&-', "sh", *COMMAND, "--version"], check=False).returncode == 0


def test_names_that_the_terminal_cannot_show_are_escaped():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for name, shown in ((b"caf\xc3\xa9.mp4", b"caf\\xe9.mp4"), (b"\xff.mp4", b"\\udcff.mp4")):
        done = _run(["info", name], stdout=subprocess.PIPE, env=environment)
        assert done.returncode == 2
        assert shown in done.stderr
        assert b"Traceback" not in done.stderr
