"""A model behind an address with OpenAI's chat completions."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, ClassVar
from urllib.parse import urlsplit

from uniavgen.arguments import check_arguments
from uniavgen.artifacts import parse_json
from uniavgen.errors import ConfigError, DataError

TIMEOUT_S = 300
_MAX_ANSWER_BYTES = 2**24
"""Far more than a caption, or two grades and a reason."""


class ChatAnswerError(DataError):
    """The model gave no answer that can be used."""


@dataclass(frozen=True, kw_only=True)
class ChatEndpoint:
    """A multimodal model behind an address."""

    role: ClassVar[str] = "model"
    """What messages call it."""
    url: str
    """Base address, as http://127.0.0.1:8000/v1."""
    model: str
    key: str = field(default="", repr=False)
    """Sent as a bearer token, never stored."""

    def __post_init__(self) -> None:
        check_arguments(self)
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"the {self.role}'s address begins with http:// or https://, got '{self.url}'")
        if not _is_address(self.url):
            raise ConfigError(f"the {self.role}'s address is http://HOST:PORT/PATH, got '{self.url}'")
        if not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError(
                f"the {self.role}'s key holds characters that no key has; copy it anew, without line ends"
            )

    def chat_body(self, content: Sequence[Any]) -> bytes:
        """Returns a request with one message of the user; content: its parts, as OpenAI names them."""
        return json.dumps({"model": self.model, "messages": [{"role": "user", "content": list(content)}]}).encode()

    def complete(self, body: bytes) -> str:
        """Returns the text of the model's answer; raises ChatAnswerError where none comes or it holds none."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                content = answer.read(_MAX_ANSWER_BYTES)
        except (OSError, HTTPException) as error:  # URLError, timeouts, broken connections, what is no HTTP
            raise ChatAnswerError(f"{type(error).__name__}: {error}") from error
        data: Any = parse_json(content, "the answer", ChatAnswerError, "ask for JSON")
        try:
            return str(data["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise ChatAnswerError("the answer holds no message") from error


class _RefusedRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses every redirect: urllib would send the key, and no clip, to whatever address the answer names."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        text = (
            f"it leads to {newurl[:200]}, which is not followed, since the key would be sent there; name that address"
        )
        raise urllib.error.HTTPError(req.full_url, code, f"{msg}: {text}", headers, fp)


_OPENER = urllib.request.build_opener(_RefusedRedirects)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        return False
