"""Jobs as clients see them."""

import math
import time

from fastapi.responses import JSONResponse

from uniavgen.apps.server.errors import RequestError, error_body
from uniavgen.apps.server.job_store import JobRecord, JobStore, Status
from uniavgen.apps.server.schemas import VideoError, VideoObject

NO_RETRY = {"x-should-retry": "false"}
"""Tells OpenAI's client that asking again changes nothing."""
_RUNNING_MAX = 99
"""Only a completed job is at 100."""


def describe(job: JobRecord, store: JobStore, model: str) -> VideoObject:
    """Returns the video object of a job."""
    shown = job.request["shown"]
    is_queued = job.status == Status.QUEUED
    is_done = job.status == Status.COMPLETED
    return VideoObject(
        id=job.id,
        model=model,
        status=job.status,  # pyright: ignore[reportArgumentType] - pydantic checks it
        progress=100 if is_done else min(job.progress, _RUNNING_MAX),
        created_at=int(job.created_at),
        completed_at=None if job.completed_at is None else int(job.completed_at),
        expires_at=None if job.expires_at is None else math.ceil(job.expires_at),
        prompt=shown["prompt"],
        seconds=f"{shown['seconds']:.4g}",
        size=shown["size"],
        error=None if job.status != Status.FAILED else VideoError(code=_code(job), message=job.error or ""),
        task=job.request["task"],
        speech=shown["speech"],
        seed=job.request["settings"]["seed"],
        num_frames=shown["num_frames"],
        fps=shown["fps"],
        phase=job.phase or None,
        queue_position=store.position(job) if is_queued else None,
        stage_durations=_stage_durations(job),
        inference_time_s=job.result.get("inference_time_s"),
        peak_memory_mb=job.result.get("peak_memory_mb"),
        warnings=shown["warnings"],
    )


def failed_job(job: JobRecord, video: VideoObject) -> JSONResponse:
    """Returns the answer about a failed job: its error's status, with the video object."""
    status = job.error_status or 500
    body = video.model_dump()
    return JSONResponse({**body, **error_body(status, job.error or "", _code(job))}, status, headers=NO_RETRY)


def refused(error: RequestError, wait_s: float) -> JSONResponse:
    """Returns the answer about a request that is refused; `wait_s` is when a full queue may have room."""
    headers = dict(error.headers)
    if error.status == 429:
        headers["Retry-After"] = str(max(1, min(math.ceil(wait_s), 600)))
    elif 400 <= error.status < 500:
        headers |= NO_RETRY
    return JSONResponse(error_body(error.status, str(error), error.code), error.status, headers=headers)


def _code(job: JobRecord) -> str:
    return {400: "invalid_request", 504: "timeout", 507: "out_of_memory"}.get(job.error_status or 500, "server_error")


def _stage_durations(job: JobRecord) -> dict[str, float] | None:
    if job.started_at is None:
        return None
    queued = round((job.started_at or time.time()) - job.created_at, 3)
    return {"queued": max(queued, 0.0), **job.result.get("stage_durations", {})}
