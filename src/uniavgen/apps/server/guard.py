"""What every request passes: pages of other sites are refused, headers tell browsers to be strict, and the log says
what was asked, without texts, queries and keys."""

import logging
import time
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uniavgen.apps.server.errors import error_body
from uniavgen.apps.server.input_check import log_failure
from uniavgen.apps.server.metrics import ServerMetrics

logger = logging.getLogger(__name__)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_READING: Final = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware around the whole application.

    needs_keys: without keys, only names of this computer are served, so that no page of another site can reach the
    server by letting its own name lead here.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, needs_keys: bool) -> None:
        self._app, self._metrics, self._needs_keys = app, metrics, needs_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, is_started = time.monotonic(), 500, False

        async def send_guarded(message: Message) -> None:
            nonlocal status, is_started
            if message["type"] == "http.response.start":
                status, is_started = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                self._metrics.request_seconds.labels(_route(scope)).observe(time.monotonic() - started)
            await send(message)

        refusal = self._refusal(scope)
        try:
            if refusal is None:
                await self._app(scope, receive, send_guarded)
            else:
                await JSONResponse(error_body(403, refusal), 403)(scope, receive, send_guarded)
        except Exception as error:
            # Left to the framework, its text would stand in the log.
            log_failure(error)
            if not is_started:
                sentence = "the server made an error; it is in its log"
                await JSONResponse(error_body(500, sentence), 500)(scope, receive, send_guarded)
        finally:
            method, route = scope["method"][:10], _route(scope)
            self._metrics.requests.labels(method, route, status).inc()
            # Clients that wait ask a few times a second.
            level = logging.DEBUG if method in _READING and status < 400 else logging.INFO
            logger.log(level, "%s %s %d %.0f ms", method, route, status, 1000 * (time.monotonic() - started))

    def _refusal(self, scope: Scope) -> str | None:
        """Returns why a request is not served."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._needs_keys and _host_name(f"//{host}") not in _LOOPBACK:
            return "this server needs no key and is only for this computer; call it by 127.0.0.1 or localhost"
        origin = headers.get("origin")
        is_foreign = origin is not None and urlsplit_netloc(origin) != host.lower()
        if is_foreign and scope["method"] not in _READING:
            return "pages of other sites may not use this server; call it from a program"
        return None


def urlsplit_netloc(url: str) -> str:
    """Returns host and port of a URL; empty for one that is none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _route(scope: Scope) -> str:
    """Returns the route that a request was for, as it is declared, so that no id is logged."""
    route: Any = scope.get("route")
    return getattr(route, "path", "unknown")
