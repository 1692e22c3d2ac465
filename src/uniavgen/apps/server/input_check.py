"""Decodes what a client sent, in a process with limits of time and memory, before its job is queued.

The process is forked from one that has imported everything, does all that can be done without weights, with the classes
of the shell, and ends. What crashes it, hangs it or fills its memory is refused like every other bad input.
"""

import logging
import re
import resource
import threading
import traceback
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from uniavgen.apps.server.clip_request import ClipRequest
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.job_files import VIDEO
from uniavgen.apps.server.processes import process_context
from uniavgen.errors import UniAVGenError
from uniavgen.workflows.load_config import LoadConfig

logger = logging.getLogger(__name__)
_PROCESSES: Final = 2
"""Inputs that are decoded at the same time."""


class InputChecker:
    """Checks inputs of jobs. Its methods may be called from any thread."""

    def __init__(self, load: LoadConfig, config: ServerConfig) -> None:
        # What concerns a GPU is checked where the model is loaded.
        self._load = LoadConfig(model=load.model, device="cpu", cache=load.cache, lora=load.lora)
        self._config = config
        self._context = process_context()
        self._slots = threading.Semaphore(_PROCESSES)

    def check(self, request: ClipRequest, folder: Path) -> dict[str, Any]:
        """Returns length, size and rate of the clip to come, and warnings. Raises RequestError for inputs of which no
        clip can be made."""
        lora = (*self._load.lora, *request.lora_options(self._config.adapters))
        memory = int(self._config.check_memory_gb * 1e9)
        with self._slots:
            receiver, sender = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=_check, args=(sender, replace(self._load, lora=lora), request.to_json(), folder, memory)
            )
            process.start()
            sender.close()
            try:
                kind, value = self._receive(receiver)
            finally:
                process.kill()
                process.join()
                receiver.close()
        if kind == "checked":
            return value
        raise RequestError(400 if kind == "refused" else 500, plain_sentence(value, folder))

    def _receive(self, receiver: Connection) -> tuple[str, Any]:
        seconds = self._config.check_seconds
        if not receiver.poll(seconds):
            return "refused", f"decoding the files took more than {seconds:g} s; send shorter or smaller ones"
        try:
            return receiver.recv()
        except EOFError:
            return "refused", "the files cannot be decoded within the memory that is allowed; send smaller ones"


def plain_sentence(sentence: str, folder: Path) -> str:
    """Returns an error of the library in the words of the API: no paths of the server, fields instead of options."""
    sentence = sentence.replace(f"{folder}/", "")
    return re.sub(r"--([a-z][a-z-]*)", lambda match: match[1].replace("-", "_"), sentence)


def log_failure(error: BaseException) -> None:
    """Logs where an error of ours happened, but not its text, which may hold what a client wrote."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s in\n%s", type(error).__name__, frames)


def _check(sender: Connection, load: LoadConfig, data: Mapping[str, Any], folder: Path, memory: int) -> None:
    """Runs in the forked process."""
    size = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sender.send(("checked", _prepare(load, ClipRequest.from_json(data), folder)))
    except UniAVGenError as error:
        sender.send(("refused", str(error)))
    except MemoryError:
        sender.send(("refused", "the files take too much memory when they are decoded; send smaller ones"))
    except Exception as error:
        log_failure(error)
        sender.send(("failed", "the inputs could not be checked, which is an error of the server"))


def _prepare(load: LoadConfig, request: ClipRequest, folder: Path) -> dict[str, Any]:
    from uniavgen.workflows.generate import prepare_job
    from uniavgen.workflows.load import ModelLoader

    warnings = _Warnings()
    library = logging.getLogger("uniavgen")
    library.addHandler(warnings)
    library.propagate = False
    prepared = prepare_job(request.job(folder), folder / VIDEO, ModelLoader(load))
    height, width = prepared.inputs.frames.shape[1:3]
    timing = prepared.timing
    return {
        "num_frames": timing.num_frames,
        "seconds": float(timing.duration_s),
        "fps": float(timing.base.fps),
        "size": f"{width}x{height}",
        "warnings": [plain_sentence(text.removeprefix("warning: "), folder) for text in warnings.texts],
    }


class _Warnings(logging.Handler):
    """Keeps what the library warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the text of a record."""
        self.texts.append(record.getMessage())


def _address_space() -> int:
    """Returns the bytes of address space that this process has, most of them shared with the process it was forked
    from."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[0]) * resource.getpagesize() if status.exists() else 2**33
