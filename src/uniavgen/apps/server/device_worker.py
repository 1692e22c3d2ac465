"""The process that owns a device: it loads the model once and makes one clip after the other.

It ends when the server ends, however that ends. A clip is stopped at its next step by an exception in the callback of
its progress. `DeviceWorker` is the server's end of it, `_run` the process.
"""

import logging
import os
import queue
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniavgen.apps.server.clip_request import ClipRequest
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.input_check import log_failure, plain_sentence
from uniavgen.apps.server.job_files import THUMBNAIL, VIDEO
from uniavgen.apps.server.processes import process_context
from uniavgen.errors import OutputError, UniAVGenError
from uniavgen.provenance.config import MarkingConfig
from uniavgen.workflows.load_config import LoadConfig

if TYPE_CHECKING:
    from uniavgen.inference.clip import Progress
    from uniavgen.inference.pipeline import UniAVGenPipeline

logger = logging.getLogger(__name__)
TICK_S = 1.0
"""Longest time between two calls of `on_tick`."""
_CONSENT = "The person whose voice or picture is given agrees to its use, as the user of the server has stated."
_FAULT = "the clip could not be made, which is an error of the server; it is in its log"
# Parts of the whole work at the ends of phases, by the phases' names; they order the progress, not the time.
_PERCENT = {
    "encode_text": (0, 2),
    "encode_frames": (2, 5),
    "sample": (5, 80),
    "decode_video": (80, 93),
    "decode_audio": (93, 96),
}
_WRITING = 96


class DeviceProcessEndedError(Exception):
    """The process ended in the middle of a clip."""


class JobStoppedError(Exception):
    """A clip was stopped because nobody wants it any more."""


class JobFailedError(Exception):
    """A clip that cannot be made."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class UnusableModelError(UniAVGenError):
    """The model cannot be loaded on this device, whatever is asked of it."""


OnTick = Callable[[int, str], None]
"""Takes the percent that are done and the phase; called at least every TICK_S seconds."""


class DeviceWorker:
    """Runs clips in the process of a device, one at a time, and starts the process again when it has died."""

    def __init__(self, load: LoadConfig, config: ServerConfig, marking: MarkingConfig) -> None:
        self._load, self._config, self._marking = load, config, marking
        self._context = process_context()
        self._process: Any = None
        self._connection: Connection | None = None
        self._sending = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Returns the id of the process, None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process unless it runs, and waits until the model is loaded.

        Raises UnusableModelError where it cannot be loaded, DeviceProcessEndedError where the process ends meanwhile.
        """
        if self._process is not None and self._process.is_alive():
            return
        self.close()
        self._connection, other = self._context.Pipe()
        process: Any = self._context.Process(
            target=_run, args=(other, self._load, self._config, self._marking), daemon=True
        )
        process.start()
        # Not before it is started, since another thread may close it.
        self._process = process
        other.close()
        kind, value = self._receive(None)
        if kind == "unusable":
            raise UnusableModelError(value)

    def run(self, job_id: str, request: Mapping[str, Any], folder: Path, on_tick: OnTick) -> dict[str, Any]:
        """Makes a clip in `folder` and returns its durations and memory.

        Raises JobFailedError, JobStoppedError after `stop`, and DeviceProcessEndedError.
        """
        self._send(("run", job_id, dict(request), folder))
        percent, phase = 0, ""
        while True:
            message = self._receive(TICK_S)
            if message is None:
                on_tick(percent, phase)
                continue
            kind, value = message
            if kind == "progress":
                percent, phase = max(percent, value[0]), value[1]
                on_tick(percent, phase)
            elif kind == "finished":
                return value
            elif kind == "stopped":
                raise JobStoppedError
            else:
                raise JobFailedError(*value)

    def stop(self, job_id: str) -> None:
        """Lets the clip of a job end at its next step; nothing happens where it is not being made."""
        try:
            self._send(("stop", job_id))
        except DeviceProcessEndedError:
            logger.info("the process of the device has ended before a clip was stopped")

    def close(self) -> None:
        """Ends the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, message: Any) -> None:
        connection = self._connection
        if connection is None:
            raise DeviceProcessEndedError("it was not started")
        try:
            with self._sending:
                connection.send(message)
        except OSError as error:
            raise DeviceProcessEndedError(self._end()) from error

    def _receive(self, timeout_s: float | None) -> Any:
        connection = self._connection
        if connection is None:
            raise DeviceProcessEndedError("it was closed")
        try:
            return connection.recv() if connection.poll(timeout_s) else None
        except (EOFError, OSError) as error:
            raise DeviceProcessEndedError(self._end()) from error

    def _end(self) -> str:
        """Returns how the process ended."""
        process = self._process
        if process is None:
            return "it was closed"
        process.join()
        code = process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


class _StopGenerationError(BaseException):
    """Ends a clip from within its progress callback; no handler of errors may take it for one."""


class _Commands(threading.Thread):
    """Reads what the server sends while a clip is made."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self.jobs: queue.Queue[tuple[str, Mapping[str, Any], Path]] = queue.Queue()
        self.stopped: set[str] = set()

    def run(self) -> None:
        """Reads until the server is gone, and then ends the process."""
        while True:
            try:
                kind, *values = self._connection.recv()
            except (EOFError, OSError):
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "stop":
                self.stopped.add(values[0])
            else:
                self.jobs.put((values[0], values[1], values[2]))


def _run(connection: Connection, load: LoadConfig, config: ServerConfig, marking: MarkingConfig) -> None:
    """Is the process: loads the model, then makes clips until the server ends."""
    # Ctrl-C in a terminal reaches every process; the server says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # The library's warnings quote texts of requests.
    logging.getLogger("uniavgen.inference").setLevel(logging.ERROR)
    commands = _Commands(connection)
    commands.start()
    try:
        generator = _Generator(load, config, marking, connection.send, commands.stopped)
        generator.check_marking()
        generator.load_model(())
    except UniAVGenError as error:
        connection.send(("unusable", str(error)))
        return
    connection.send(("ready", None))
    while True:
        job_id, request, folder = commands.jobs.get()
        connection.send(generator.outcome(job_id, ClipRequest.from_json(request), folder))
        commands.stopped.discard(job_id)


class _Generator:
    """Makes clips with the model that is loaded."""

    def __init__(
        self,
        load: LoadConfig,
        config: ServerConfig,
        marking: MarkingConfig,
        send: Callable[[Any], None],
        stopped: set[str],
    ) -> None:
        self._load, self._config, self._marking = load, config, marking
        self._send, self._stopped = send, stopped
        self._lora: tuple[str, ...] | None = None
        self._pipeline: UniAVGenPipeline | None = None

    def check_marking(self) -> None:
        """Raises ConfigError for a key that cannot sign, and logs what keeps clips from being signed."""
        from uniavgen.workflows.marking import ClipMarker

        ClipMarker.build(self._marking, Path(VIDEO).suffix, logger.warning)

    def load_model(self, lora: tuple[str, ...]) -> "UniAVGenPipeline":
        """Returns the pipeline with adapters; it is loaded anew where they are others than before."""
        from uniavgen.tasks.names import Task
        from uniavgen.workflows.load import ModelLoader

        if self._pipeline is None or lora != self._lora:
            # The memory of the old one is needed for the new one.
            self._pipeline = None
            _free_memory()
            load = replace(self._load, lora=(*self._load.lora, *lora))
            self._loader = ModelLoader(load, lambda line: logger.info("%s", line))
            self._pipeline = self._loader.load_for_tasks([*Task], self._config.max_frames)
            self._lora = lora
        return self._pipeline

    def outcome(self, job_id: str, request: ClipRequest, folder: Path) -> tuple[str, Any]:
        """Makes a clip; returns what is told to the server."""
        try:
            return "finished", self._make(job_id, request, folder)
        except _StopGenerationError:
            return "stopped", None
        except UniAVGenError as error:
            status = 507 if isinstance(error, OutputError) else 400
            return "failed", (status, plain_sentence(str(error), folder))
        except MemoryError:
            return "failed", (507, "there is not enough memory for this clip; ask for a shorter or smaller one")
        except Exception as error:
            log_failure(error)
            return "failed", (500, _FAULT)
        finally:
            _free_memory()

    def _make(self, job_id: str, request: ClipRequest, folder: Path) -> dict[str, Any]:
        from uniavgen.media.image import write_image
        from uniavgen.workflows.clip_jobs import GeneratedClip
        from uniavgen.workflows.fit import out_of_memory_as_error
        from uniavgen.workflows.generate import clip_settings, prepare_job, thumbnail, write_clip_file
        from uniavgen.workflows.marking import ClipMarker

        durations: dict[str, float] = {}
        current, begun = "prepare", time.monotonic()

        def enter(phase: str) -> None:
            nonlocal current, begun
            now = time.monotonic()
            durations[current] = durations.get(current, 0.0) + now - begun
            current, begun = phase, now

        def on_progress(progress: "Progress") -> None:
            if job_id in self._stopped:
                raise _StopGenerationError
            phase = progress.phase.name.lower()
            if phase != current:
                enter(phase)
            low, high = _PERCENT[phase]
            self._send(("progress", (low + (high - low) * progress.step // max(progress.total, 1), phase)))

        pipeline = self.load_model(request.lora_options(self._config.adapters))
        job, out = request.job(folder), folder / VIDEO
        prepared = prepare_job(job, out, self._loader)
        with out_of_memory_as_error():
            clip = pipeline(prepared, on_progress=on_progress)
        enter("write")
        self._send(("progress", (_WRITING, "write")))
        generated = GeneratedClip(clip=clip, settings=clip_settings(job, self._loader.name, clip), prepared=prepared)
        is_stated = request.consent and not self._marking.no_mark
        marking = replace(self._marking, consent=_CONSENT) if is_stated else self._marking
        file = write_clip_file(job, out, generated, True, ClipMarker.build(marking, out.suffix))
        write_image(folder / THUMBNAIL, thumbnail(file.clip))
        enter("")
        rounded = {name: round(seconds, 3) for name, seconds in durations.items()}
        return {
            "stage_durations": rounded,
            "inference_time_s": round(sum(durations.values()), 3),
            "peak_memory_mb": _peak_memory_mb(),
        }


def _free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _peak_memory_mb() -> float:
    """Returns the most memory in use since the last call: of the GPU, or of this process where there is none."""
    import torch

    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return round(peak, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
