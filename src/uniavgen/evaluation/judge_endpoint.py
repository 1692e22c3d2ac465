"""An endpoint with OpenAI's chat completions, to which a clip and a text are sent."""

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float32

from uniavgen.arguments import check_arguments
from uniavgen.artifacts import parse_json
from uniavgen.errors import ConfigError, DataError
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.media.packing import encode_wav
from uniavgen.perception.sound import SPEECH_RATE_HZ

TIMEOUT_S = 300
_MAX_ANSWER_BYTES = 2**24
"""Far more than two grades and a reason."""


class JudgeAnswerError(DataError):
    """The judge gave no answer that can be used."""


@dataclass(frozen=True, kw_only=True)
class JudgeEndpoint:
    """A multimodal model behind an address."""

    url: str
    """Base address, as http://127.0.0.1:8000/v1."""
    model: str
    key: str = field(default="", repr=False)
    """Sent as a bearer token, never stored."""

    def __post_init__(self) -> None:
        check_arguments(self)
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"the judge's address begins with http:// or https://, got '{self.url}'")
        if not _is_address(self.url):
            raise ConfigError(f"the judge's address is http://HOST:PORT/PATH, got '{self.url}'")
        if not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError("the judge's key holds characters that no key has; copy it anew, without line ends")

    def complete(self, body: bytes) -> str:
        """Returns the text of the model's answer; raises JudgeAnswerError where none comes or it holds none."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                content = answer.read(_MAX_ANSWER_BYTES)
        except (OSError, HTTPException) as error:  # URLError, timeouts, broken connections, what is no HTTP
            raise JudgeAnswerError(f"{type(error).__name__}: {error}") from error
        data: Any = parse_json(content, "the answer", JudgeAnswerError, "ask for JSON")
        try:
            return str(data["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise JudgeAnswerError("the answer holds no message") from error

    def request_body(self, text: str, clip: DecodedClip) -> bytes:
        """Returns a request with a text, the clip's file as a data URL and its sound as WAV."""
        assert clip.waveform is not None
        subtype = "quicktime" if clip.path.suffix.lower() == ".mov" else "mp4"
        video = base64.b64encode(clip.path.read_bytes()).decode()
        content = [
            {"type": "text", "text": text},
            {"type": "video_url", "video_url": {"url": f"data:video/{subtype};base64,{video}"}},
            {"type": "input_audio", "input_audio": {"data": _base64_wav(clip.waveform), "format": "wav"}},
        ]
        return json.dumps({"model": self.model, "messages": [{"role": "user", "content": content}]}).encode()


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


def _base64_wav(waveform: Float32[np.ndarray, " samples"]) -> str:
    return base64.b64encode(encode_wav(waveform, SPEECH_RATE_HZ)).decode()
