"""Follows a job until it ends, for streams of events and for answers that wait."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from fastapi.concurrency import run_in_threadpool
from fastapi.sse import ServerSentEvent

from uniavgen.apps.server.answers import describe
from uniavgen.apps.server.job_store import JobRecord, JobStore, Status

_LOOK_S: Final = 0.2
"""Seconds between two looks; the job may be made by another replica, so the store is asked."""


async def follow(store: JobStore, job: JobRecord) -> AsyncIterator[JobRecord]:
    """Yields a job again and again, the last time when it has ended; ends early where it is deleted."""
    while True:
        yield job
        if job.status in (Status.COMPLETED, Status.FAILED):
            return
        await asyncio.sleep(_LOOK_S)
        now = await run_in_threadpool(store.find, job.id)
        if now is None:
            return
        job = now


async def job_events(store: JobStore, job: JobRecord, model: str) -> AsyncIterator[ServerSentEvent]:
    """Yields the events of a job: `queued`, `in_progress`, then `completed`, `failed` or `deleted`, each with its video
    object."""
    latest, shown = job, None
    async for latest in follow(store, job):
        video = await run_in_threadpool(describe, latest, store, model)
        if video != shown:
            shown = video
            yield ServerSentEvent(event=latest.status, data=video)
    if latest.status not in (Status.COMPLETED, Status.FAILED):
        yield ServerSentEvent(event="deleted", data={"id": job.id, "object": "video.deleted", "deleted": True})
