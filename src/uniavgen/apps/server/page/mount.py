"""Adds the page to the server, at /ui. It is built when it is first asked for, so that programs do not wait for it."""

import asyncio
import os
from importlib.util import find_spec
from typing import Annotated, Final, Literal

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uniavgen.apps.server.api import Services, download_video
from uniavgen.apps.server.errors import RequestError, error_body
from uniavgen.apps.server.page.visitor import new_cookie, visitor_owner

PATH: Final = "/ui"
_UPLOADS: Final = "page-uploads"
# Gradio's own scripts are inline and compile templates; nothing comes from or goes to another site.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)
_MANIFEST: Final = {"name": "UniAVGen", "start_url": "ui/", "display": "browser"}
_ICON: Final = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" \
fill="#3b82f6"/><path d="M5 4l7 4-7 4z" fill="#fff"/></svg>"""
_HASHED_FILES: Final = "/assets/"


def is_installed() -> bool:
    """Returns whether Gradio is there, without importing it."""
    return find_spec("gradio") is not None


def add_page(app: FastAPI, services: Services) -> "Page":
    """Adds the page and its files to an application; returns the page, which is to be closed with it."""
    page = Page(services)
    app.include_router(_router())
    app.mount(PATH, page)
    return page


class Page:
    """ASGI application of the page: knows the visitor, sets headers, and hands over to Gradio."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._building = asyncio.Lock()
        self._gradio: ASGIApp | None = None
        self._closing = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends what the page does in the background."""
        self._closing.set()
        if self._running is not None:
            await self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        try:
            owner = visitor_owner(Headers(scope=scope), self._services.keys)
        except RequestError as error:
            body = error_body(error.status, str(error))
            await JSONResponse(body, error.status, headers=error.headers)(scope, receive, send)
            return
        gradio = await self._built()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                if _HASHED_FILES in scope["path"]:
                    headers["Cache-Control"] = "private, max-age=86400"
                if owner is None:
                    headers.append("Set-Cookie", new_cookie(scope["scheme"] == "https"))
            await send(message)

        await gradio(scope, receive, send_with_headers)

    async def _built(self) -> ASGIApp:
        async with self._building:
            if self._gradio is not None:
                return self._gradio
            parent = await run_in_threadpool(_build, self._services)
            ready = asyncio.Event()
            self._running = asyncio.create_task(self._run(parent, ready))
            await ready.wait()
            gradio = next(route.app for route in parent.routes if isinstance(route, Mount) and route.path == PATH)
            self._gradio = gradio
            return gradio

    async def _run(self, parent: FastAPI, ready: asyncio.Event) -> None:
        async with parent.router.lifespan_context(parent):
            ready.set()
            await self._closing.wait()


def _build(services: Services) -> FastAPI:
    """Returns an application that holds nothing but Gradio's."""
    # Read when Gradio is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(services.config.data_dir.absolute() / _UPLOADS)
    from gradio import mount_gradio_app

    from uniavgen.apps.server.page.layout import CSS, build_page, theme

    largest = max(services.config.max_bytes(kind) for kind in ("image", "audio", "video"))
    return mount_gradio_app(
        FastAPI(),
        build_page(services),
        PATH,
        # Without it, files that a button puts into a form would be looked for at the root.
        root_path=PATH,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=largest,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS.read_text(),
    )


def _router() -> APIRouter:
    """Returns the routes beside Gradio's: the way to the page, and the files of one's clips."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def home() -> RedirectResponse:
        return RedirectResponse(f"{PATH.removeprefix('/')}/")

    @router.get(PATH)
    def page() -> RedirectResponse:
        return RedirectResponse(f"{PATH.removeprefix('/')}/")

    # Gradio's page links to these two at the root.
    @router.get("/manifest.json")
    def manifest() -> JSONResponse:
        return JSONResponse(_MANIFEST, media_type="application/manifest+json")

    @router.get("/favicon.ico")
    def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml")

    @router.get(f"{PATH}/clips/{{video_id}}/{{variant}}", response_class=FileResponse)
    def clip_file(
        request: Request,
        video_id: Annotated[str, Path(max_length=100)],
        variant: Literal["video", "thumbnail", "contact_sheet"],
    ) -> Response:
        services: Services = request.app.state.services
        owner = visitor_owner(request.headers, services.keys)
        if owner is None:
            raise RequestError(404, "there is no such video; it may have been deleted or have expired")
        return download_video(request, services, services.find(video_id, owner), variant)

    return router
