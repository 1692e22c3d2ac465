"""The judge behind an endpoint with OpenAI's chat completions, to which a clip and a text are sent."""

import base64
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.media.packing import encode_wav
from uniavgen.perception.chat_endpoint import ChatEndpoint
from uniavgen.perception.sound import SPEECH_RATE_HZ


@dataclass(frozen=True, kw_only=True)
class JudgeEndpoint(ChatEndpoint):
    """A multimodal model that takes video and sound."""

    role: ClassVar[str] = "judge"

    def request_body(self, text: str, clip: DecodedClip) -> bytes:
        """Returns a request with a text, the clip's file as a data URL and its sound as WAV."""
        assert clip.waveform is not None
        subtype = "quicktime" if clip.path.suffix.lower() == ".mov" else "mp4"
        video = base64.b64encode(clip.path.read_bytes()).decode()
        return self.chat_body(
            [
                {"type": "text", "text": text},
                {"type": "video_url", "video_url": {"url": f"data:video/{subtype};base64,{video}"}},
                {"type": "input_audio", "input_audio": {"data": _base64_wav(clip.waveform), "format": "wav"}},
            ]
        )


def _base64_wav(waveform: Float32[np.ndarray, " samples"]) -> str:
    return base64.b64encode(encode_wav(waveform, SPEECH_RATE_HZ)).decode()
