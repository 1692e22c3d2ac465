"""A server in a process of its own on a free port of loopback, and what tests ask of it."""

import base64
import io
import os
import signal
import subprocess
import sys
import time
import wave
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx2 as httpx
import numpy as np
from PIL import Image

PROGRAM = "import sys; from uniavgen.apps.cli import main; sys.exit(main())"
SMALL = {"num_frames": 17, "num_inference_steps": 2, "speech": "Hello there."}
"""A clip that takes a second."""


class RunningServer:
    """`uniavgen serve` with nano on the CPU."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_suffix(".log")
        self._options = options
        self.url = ""
        self.start()

    def start(self) -> None:
        """Starts the server, with what an earlier one has left, and waits until it listens."""
        command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--data-dir", str(self.data_dir)]
        # No coverage, no type checks of the tests: as a user runs it.
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu", *self._options],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                # A shell ignores Ctrl-C for what it starts in the background, and so would the server.
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert " at http://127.0.0.1:" in line, f"{line}{self.log.read_text()}"
        self.url = line.split(" at ")[1].strip()

    def stop(self) -> int:
        """Stops the server as Ctrl-C does; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait()

    def kill(self) -> None:
        """Ends the server as `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def client(self, patience_s: float | None = None) -> httpx.Client:
        """Returns a client that waits so long for an answer."""
        client = httpx.Client(base_url=self.url)
        client.timeout = httpx.Timeout(patience_s)
        return client

    def __enter__(self) -> "RunningServer":
        """Returns the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the server, whatever has happened."""
        self.kill()

    def wait_until_ready(self) -> None:
        """Waits until the model is loaded."""
        with self.client() as client:
            wait_for(lambda: client.get("/ready").status_code == 200)

    def children(self) -> list[int]:
        """Returns the ids of all processes below the server."""
        import psutil

        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]


def wait_for(is_true: Any, seconds: float = 120) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def finished(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Waits for the end of a job and returns it."""
    ended: list[dict[str, Any]] = []

    def has_ended() -> bool:
        job = client.get(f"/v1/videos/{job_id}").json()
        if job["status"] in ("completed", "failed"):
            ended.append(job)
        return bool(ended)

    wait_for(has_ended)
    return ended[0]


def packets(clip: bytes) -> list[tuple[int, bytes]]:
    """Returns the picture and the sound of a file; its signed manifest holds random numbers."""
    with av.open(io.BytesIO(clip)) as container:
        return [(packet.stream_index, bytes(packet)) for packet in container.demux()]


def picture(side: int = 64) -> bytes:
    """Returns a PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def recording(seconds: float = 0.6, rate_hz: int = 8000) -> bytes:
    """Returns a WAV of a tone."""
    file = io.BytesIO()
    samples = (8000 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate_hz)) / rate_hz)).astype("<i2")
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate_hz)
        sound.writeframes(samples.tobytes())
    return file.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """Returns a file as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
