"""Takes a request from its body to a queued job, or refuses it and leaves nothing."""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request

from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.input_check import InputChecker
from uniavgen.apps.server.job_files import JobFiles
from uniavgen.apps.server.job_store import JobRecord, JobStore, QueueLimits, Status
from uniavgen.apps.server.references import Reference, ReferenceReader
from uniavgen.apps.server.request_body import UploadedFile, read_body
from uniavgen.apps.server.schemas import VideoRequest, parse_video_request
from uniavgen.apps.server.tasks import build_request

ID: Final = re.compile(r"video_[0-9a-f]{32}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class Submissions:
    """Queues the jobs of clients."""

    def __init__(
        self, store: JobStore, files: JobFiles, checker: InputChecker, config: ServerConfig, model: str
    ) -> None:
        self._store, self._files, self._checker, self._config, self._model = store, files, checker, config, model
        self._references = ReferenceReader(config)
        self._limits = QueueLimits(max_queued=config.max_queued, max_per_owner=config.max_jobs_per_key)

    async def accept(self, request: Request, owner: str) -> JobRecord:
        """Reads a request, checks it with everything that needs no weights, and queues its job. Raises RequestError."""
        key = request.headers.get("idempotency-key")
        if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
            raise RequestError(400, "an idempotency key has 1 to 255 letters, figures and signs without blanks")
        if key is None:
            await run_in_threadpool(self._store.check_room, owner, self._limits)
        job_id = _new_id()
        folder = await run_in_threadpool(self._files.create, job_id)
        is_queued = False
        try:
            data, uploads = await read_body(request, folder, self._config)
            job = await run_in_threadpool(self._queue, job_id, owner, key, parse_video_request(data), uploads)
            is_queued = job.id == job_id
            return job
        finally:
            if not is_queued:
                self._files.remove(job_id)

    def submit(self, owner: str, data: Mapping[str, Any], files: Sequence[UploadedFile]) -> JobRecord:
        """Queues a job of plain data and files elsewhere on this disk, which are copied. Raises RequestError."""
        self._store.check_room(owner, self._limits)
        request, job_id = parse_video_request(data), _new_id()
        folder = self._files.create(job_id)
        is_queued = False
        try:
            uploads = [
                replace(file, path=Path(shutil.copyfile(file.path, folder / f"upload{number}")))
                for number, file in enumerate(files)
            ]
            job = self._queue(job_id, owner, None, request, uploads)
            is_queued = True
            return job
        finally:
            if not is_queued:
                self._files.remove(job_id)

    def _queue(
        self, job_id: str, owner: str, key: str | None, request: VideoRequest, uploads: list[UploadedFile]
    ) -> JobRecord:
        folder = self._files.folder(job_id)
        if request.model not in (None, self._model):
            raise RequestError(404, f"there is no model '{request.model[:100]}' here; use {self._model}", code="model")
        references = self._references.read(request, uploads, folder, partial(self._copy_clip, owner))
        digest = fingerprint(request, references)
        if key is not None:
            earlier = self._store.find_repeated(owner, key, digest)
            if earlier is not None:
                return earlier
            self._store.check_room(owner, self._limits)
        clip = build_request(request, references, self._config)
        shown = {**self._checker.check(clip, folder), "prompt": request.prompt, "speech": request.speech}
        # Another replica may take the job at once.
        self._files.publish_inputs(job_id)
        return self._store.add(job_id, owner, replace(clip, shown=shown).to_json(), self._limits, key, digest)

    def _copy_clip(self, owner: str, job_id: str, target: Path) -> bool:
        job = self._store.find(job_id, owner) if ID.fullmatch(job_id) else None
        return job is not None and job.status == Status.COMPLETED and self._files.copy_clip(job_id, target)


def _new_id() -> str:
    """Returns an id of 128 random bits, so that nobody finds a job by guessing."""
    return f"video_{secrets.token_hex(16)}"


def fingerprint(request: VideoRequest, references: Sequence[Reference]) -> str:
    """Returns a hash of what is asked for, files by their content."""
    fields = request.model_dump(exclude={field for field in VideoRequest.model_fields if field.endswith("_reference")})
    files = [(each.kind, each.digest) for each in references]
    return hashlib.sha256(json.dumps([fields, files], sort_keys=True).encode()).hexdigest()
