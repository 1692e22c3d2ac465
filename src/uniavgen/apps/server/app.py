"""The application: its parts put together, and what becomes of errors."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import uniavgen
from uniavgen.apps.server.answers import refused
from uniavgen.apps.server.api import Services, router
from uniavgen.apps.server.api_keys import ApiKeys
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.device_worker import DeviceWorker
from uniavgen.apps.server.errors import RequestError, error_body
from uniavgen.apps.server.guard import Guard
from uniavgen.apps.server.input_check import InputChecker, log_failure
from uniavgen.apps.server.job_files import JobFiles
from uniavgen.apps.server.job_store import JobStore
from uniavgen.apps.server.metrics import ServerMetrics
from uniavgen.apps.server.openapi import add_docs, add_schema
from uniavgen.apps.server.page.mount import add_page
from uniavgen.apps.server.page.mount import is_installed as page_is_installed
from uniavgen.apps.server.scheduler import Scheduler
from uniavgen.apps.server.stored_job_files import StoredJobFiles
from uniavgen.apps.server.submission import Submissions
from uniavgen.errors import DataError
from uniavgen.provenance.config import MarkingConfig
from uniavgen.workflows.load_config import LoadConfig
from uniavgen.workflows.model_files import find_model, shown_name

logger = logging.getLogger(__name__)


def create_app(
    config: ServerConfig,
    load: LoadConfig,
    on_failure: Callable[[], None] = lambda: None,
    marking: MarkingConfig | None = None,
) -> FastAPI:
    """Returns the application of one replica, which starts and stops its device worker with itself.

    marking: how clips say who made them; with all marks and the user's own key if None.
    on_failure: called where the model cannot be loaded; the reason is then `app.state.services.scheduler.failure`.
    Raises ConfigError for keys or a store that cannot be opened, CheckpointError for a model that is not there.
    """
    metrics, keys, model = ServerMetrics(), ApiKeys(config.api_keys), shown_name(load.model, find_model(load.model))
    store, files = JobStore(config.database_url, config.lease_seconds), open_files(config)
    metrics.show_queue(store.counts)
    scheduler = Scheduler(
        store, files, DeviceWorker(load, config, marking or MarkingConfig()), config, metrics, on_failure
    )
    submissions = Submissions(store, files, InputChecker(load, config), config, model)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        scheduler.start()
        try:
            yield
        finally:
            if page is not None:
                await page.close()
            scheduler.stop()
            store.close()

    app = FastAPI(title="UniAVGen", version=uniavgen.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    services = app.state.services = Services(
        config=config,
        model=model,
        keys=keys,
        store=store,
        files=files,
        scheduler=scheduler,
        submissions=submissions,
        metrics=metrics,
    )
    app.include_router(router)
    page = add_page(app, services) if page_is_installed() and not config.no_page else None
    add_schema(app)
    add_docs(app)
    _add_error_handlers(app)
    app.add_middleware(Guard, metrics=metrics, needs_keys=keys.are_needed)
    return app


def open_files(config: ServerConfig) -> JobFiles:
    """Returns the folders of jobs. Raises DataError for a store that cannot be used."""
    return StoredJobFiles(config.data_dir, config.clip_store) if config.clip_store else JobFiles(config.data_dir)


def _add_error_handlers(app: FastAPI) -> None:
    async def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError), "the handler is for these"
        return refused(error, request.app.state.services.scheduler.mean_job_s)

    async def on_bad_parameters(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError), "the handler is for these"
        texts = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return refused(RequestError(400, "; ".join(texts)), 0)

    async def on_http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "the handler is for these"
        sentence = {404: "there is no such route; see /openapi.json", 405: "this route has no such method"}
        text = sentence.get(error.status_code, str(error.detail))
        return JSONResponse(error_body(error.status_code, text), error.status_code, headers=error.headers)

    async def on_full_disk(_: Request, error: Exception) -> Response:
        assert isinstance(error, OSError), "the handler is for these"
        log_failure(error)
        return refused(RequestError(507, "the server could not store the files; try again later"), 0)

    async def on_silent_database(_: Request, error: Exception) -> Response:
        log_failure(error)
        return refused(RequestError(503, "the database of the server does not answer; try again later"), 0)

    async def on_silent_store(_: Request, error: Exception) -> Response:
        log_failure(error)
        return refused(RequestError(503, "the store of clips does not answer; try again later"), 0)

    async def on_disconnect(_: Request, __: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(RequestError, on_refusal)
    app.add_exception_handler(RequestValidationError, on_bad_parameters)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(OSError, on_full_disk)
    app.add_exception_handler(OperationalError, on_silent_database)
    app.add_exception_handler(DataError, on_silent_store)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
