"""The routes: OpenAI's video API, and what operators ask."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from uniavgen.apps.server.answers import NO_RETRY, describe, failed_job
from uniavgen.apps.server.api_keys import ApiKeys
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.events import follow, job_events
from uniavgen.apps.server.job_files import JobFiles
from uniavgen.apps.server.job_store import JobRecord, JobStore, Status
from uniavgen.apps.server.metrics import ServerMetrics
from uniavgen.apps.server.openapi import CREATE_BODY
from uniavgen.apps.server.scheduler import Scheduler
from uniavgen.apps.server.schemas import DeletedVideo, VideoList, VideoObject
from uniavgen.apps.server.submission import Submissions
from uniavgen.tasks.names import Task

router = APIRouter()


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the routes use."""

    config: ServerConfig
    model: str
    keys: ApiKeys
    store: JobStore
    files: JobFiles
    scheduler: Scheduler
    submissions: Submissions
    metrics: ServerMetrics

    def find(self, job_id: str, owner: str) -> JobRecord:
        """Returns a job of an owner. Raises RequestError 404."""
        job = self.store.find(job_id, owner)
        if job is None:
            raise RequestError(404, "there is no such video; it may have been deleted or have expired")
        return job

    def describe(self, job: JobRecord) -> VideoObject:
        """Returns the video object of a job."""
        return describe(job, self.store, self.model)


def _services(request: Request) -> Services:
    return request.app.state.services


def _owner(request: Request) -> str:
    return _services(request).keys.owner(request.headers.get("authorization"))


def _job(request: Request, video_id: Annotated[str, Path(max_length=100)], owner: "Owner") -> JobRecord:
    return _services(request).find(video_id, owner)


Server = Annotated[Services, Depends(_services)]
Owner = Annotated[str, Depends(_owner)]
Job = Annotated[JobRecord, Depends(_job)]


@router.post("/v1/videos", response_model=VideoObject, openapi_extra=CREATE_BODY, summary="Ask for a clip")
async def create_video(request: Request, server: Server, owner: Owner) -> VideoObject:
    """Queues a job. The body is a JSON object, or a form with files; unknown fields are errors."""
    job = await server.submissions.accept(request, owner)
    server.scheduler.notice()
    return await run_in_threadpool(server.describe, job)


@router.post("/v1/videos/sync", openapi_extra=CREATE_BODY, summary="Make a clip", response_class=FileResponse)
async def create_video_sync(request: Request, server: Server, owner: Owner) -> Response:
    """Answers with the clip itself. A client that hangs up takes its job back."""
    job = await server.submissions.accept(request, owner)
    server.scheduler.notice()
    async for latest in follow(server.store, job):
        job = latest
        if await request.is_disconnected():
            await run_in_threadpool(server.scheduler.delete, job.id, owner)
            return Response(status_code=499)
    return await run_in_threadpool(_content, server, job, "video")


@router.get("/v1/videos", response_model=VideoList, summary="List one's jobs")
def list_videos(
    server: Server,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=100)] = None,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """Lists jobs of this key, newest first."""
    jobs = server.store.list_jobs(owner, limit + 1, after, newest_first=order == "desc")
    videos = [server.describe(job) for job in jobs[:limit]]
    first, last = (videos[0].id, videos[-1].id) if videos else (None, None)
    return VideoList(data=videos, first_id=first, last_id=last, has_more=len(jobs) > limit)


@router.get("/v1/videos/{video_id}", response_model=VideoObject, summary="Look at a job")
def retrieve_video(server: Server, job: Job) -> Any:
    """Returns the job; for one that failed with the status of its error."""
    video = server.describe(job)
    return failed_job(job, video) if job.status == Status.FAILED else video


@router.delete("/v1/videos/{video_id}", response_model=DeletedVideo, summary="Delete a job and its clip")
def delete_video(server: Server, owner: Owner, job: Job) -> DeletedVideo:
    """Deletes a job with its files; one that is running is stopped at its next step."""
    server.scheduler.delete(job.id, owner)
    return DeletedVideo(id=job.id)


@router.get("/v1/videos/{video_id}/content", summary="Download a clip", response_class=FileResponse)
def download_video(
    request: Request,
    server: Server,
    job: Job,
    variant: Literal["video", "thumbnail", "contact_sheet", "spritesheet"] = "video",
) -> Response:
    """Returns the clip, or a picture of it; ranges of bytes are served."""
    return _content(server, job, variant, request.headers.get("range"))


@router.get("/v1/videos/{video_id}/events", summary="Follow a job", response_class=EventSourceResponse)
async def video_events(server: Server, job: Job) -> AsyncIterator[ServerSentEvent]:
    """Streams the job as server-sent events until it ends."""
    async for event in job_events(server.store, job, server.model):
        yield event


@router.get("/v1/models", summary="List what the server offers")
def list_models(server: Server, owner: Owner) -> dict[str, Any]:  # noqa: ARG001 - the key is checked
    """Names the model, its tasks and its adapters."""
    model = {
        "id": server.model,
        "object": "model",
        "created": 0,
        "owned_by": "uniavgen",
        "tasks": [str(task) for task in Task],
        "max_frames": server.config.max_frames,
        "adapters": [*server.config.adapters],
    }
    return {"object": "list", "data": [model]}


@router.get("/health", response_class=PlainTextResponse, summary="Whether the server answers")
def health() -> str:
    """Answers at once."""
    return "ok"


@router.get("/ready", response_class=PlainTextResponse, summary="Whether the model is loaded")
def ready(server: Server) -> Response:
    """Answers with status 503 until clips can be made."""
    is_ready = server.scheduler.is_ready
    return PlainTextResponse("ready" if is_ready else "the model is being loaded", 200 if is_ready else 503)


@router.get("/metrics", response_class=PlainTextResponse, summary="Figures for Prometheus")
def metrics(server: Server, owner: Owner) -> Response:  # noqa: ARG001 - the key is checked
    """Returns counters and histograms."""
    text, media_type = server.metrics.text()
    return Response(text, media_type=media_type)


def _content(server: Services, job: JobRecord, variant: str, byte_range: str | None = None) -> Response:
    """Returns a file of a finished job, or why there is none."""
    if job.status == Status.FAILED:
        return failed_job(job, server.describe(job))
    headers = {"X-Video-Id": job.id, **NO_RETRY}
    is_done = job.status == Status.COMPLETED
    answer = server.files.answer(job.id, variant, byte_range, headers) if is_done else None
    if answer is None:
        message = f"the video is {job.status.replace('_', ' ')} and has no content yet; ask again when it is completed"
        raise RequestError(409, message)
    return answer
