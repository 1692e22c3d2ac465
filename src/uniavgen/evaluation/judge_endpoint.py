"""An endpoint with OpenAI's chat completions, to which a clip and a text are sent."""

import base64
import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.errors import ConfigError
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.media.packing import encode_wav
from uniavgen.perception.sound import SPEECH_RATE_HZ

TIMEOUT_S = 300


@dataclass(frozen=True, kw_only=True)
class JudgeEndpoint:
    """A multimodal model behind an address."""

    url: str
    """Base address, as http://127.0.0.1:8000/v1."""
    model: str
    key: str = ""
    """Sent as a bearer token, never stored."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"the judge's address begins with http:// or https://, got '{self.url}'")

    def complete(self, body: bytes) -> str:
        """Returns the text of the model's answer; ValueError where the answer holds none, OSError without one."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            data: Any = json.load(answer)
        try:
            return str(data["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError("the answer holds no message") from error

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


def _base64_wav(waveform: Float32[np.ndarray, " samples"]) -> str:
    return base64.b64encode(encode_wav(waveform, SPEECH_RATE_HZ)).decode()
