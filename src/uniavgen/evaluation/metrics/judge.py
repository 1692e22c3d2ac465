"""TC and EC: do voice and person, and emotion and face, fit together, as a multimodal model judges them. [paper 4.2]

The paper asks Gemini-2.5-Pro three times and takes the mean. Any endpoint with OpenAI's chat completions that takes
audio and video can be asked; the video goes as a data URL, the sound beside it as WAV. The rubric is ours in words,
with the paper's grades [supplement 7].
"""

import base64
import io
import json
import urllib.error
import urllib.request
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from uniavgen.errors import ConfigError
from uniavgen.evaluation.clip import SPEECH_RATE_HZ, Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured, NotMeasuredNow
from uniavgen.evaluation.prompts import Prompt

CALLS = 3
"""[paper 4.2]"""
PAPERS_MODEL = "gemini-2.5-pro"
TRIES, TIMEOUT_S = 3, 300
RUBRIC = """You are an expert in audio and video understanding. Watch and listen to the clip of one talking person, \
and grade two things.

a: Does the voice fit the person, by gender and age?
0: not at all: wrong gender, or an age that is plainly another.
0.25: one of the two is seriously off, the other slightly.
0.5: one of the two does not fit, the other does.
0.75: both fit roughly, details are off.
1: both fit perfectly.

b: Does the emotion of the voice fit what face and body show? Judge by the share of the frames in which it does.
0: in none.
0.25: in very few.
0.5: in about half.
0.75: in most.
1: in every frame.

Answer with JSON only: {"score": [a, b], "reason": "at most 100 words"}."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Who is asked."""

    url: str
    """Base address, as http://127.0.0.1:8000/v1."""
    model: str
    key: str = ""
    """Sent as a bearer token, never stored."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"the judge's address begins with http:// or https://, got '{self.url}'")


def columns_of(model: str) -> tuple[Column, Column]:
    """`tc` and `ec` for the paper's judge, other names for any other: a stand-in has its own columns."""
    name = model.rpartition("/")[2].lower()
    own = "" if name == PAPERS_MODEL else "_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    return (
        Column(
            name=f"tc{own}",
            description=f"timbre consistency: voice against person by gender and age, judged by {name}, mean of "
            f"{CALLS} answers; 0 to 1",
            better=Better.HIGHER,
        ),
        Column(
            name=f"ec{own}",
            description=f"emotion consistency: voice against face and body, judged by {name}, mean of {CALLS} answers; "
            "0 to 1",
            better=Better.HIGHER,
        ),
    )


class Judge:
    """Three answers of a model about a clip."""

    networks = NOTHING

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.columns = columns_of(endpoint.model)
        self.settings: Mapping[str, str] = {"judge": endpoint.model, "calls": str(CALLS), "rubric": RUBRIC}

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        if clip.waveform is None:
            raise NotMeasured("the clip has no sound track")
        body = self._body(clip)
        answers = [self._ask(body) for _ in range(CALLS)]
        grades = np.mean([grades for grades, _ in answers], axis=0)
        names = [column.name for column in self.columns]
        return Measurement(
            scores={name: float(grade) for name, grade in zip(names, grades, strict=True)},
            details={"judge's reasons": [reason for _, reason in answers]},
        )

    def _body(self, clip: Clip) -> bytes:
        assert clip.waveform is not None
        kind = "quicktime" if clip.path.suffix.lower() == ".mov" else "mp4"
        video = base64.b64encode(clip.path.read_bytes()).decode()
        content = [
            {"type": "text", "text": RUBRIC},
            {"type": "video_url", "video_url": {"url": f"data:video/{kind};base64,{video}"}},
            {"type": "input_audio", "input_audio": {"data": _wav(clip.waveform), "format": "wav"}},
        ]
        asked = {"model": self._endpoint.model, "messages": [{"role": "user", "content": content}]}
        return json.dumps(asked).encode()

    def _ask(self, body: bytes) -> tuple[tuple[float, float], str]:
        """Both grades and the reason; NotMeasuredNow where no such answer comes."""
        said = ""
        for _ in range(TRIES):
            try:
                return parse_answer(self._post(body))
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                said = f"{type(error).__name__}: {error}"
            except ValueError as error:
                said = str(error)
        raise NotMeasuredNow(f"the judge {self._endpoint.model} gave no grades in {TRIES} tries ({said})")

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if self._endpoint.key:
            headers["Authorization"] = f"Bearer {self._endpoint.key}"
        url = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            data: Any = json.load(answer)
        try:
            return str(data["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError):
            raise ValueError("the answer holds no message") from None


def parse_answer(text: str) -> tuple[tuple[float, float], str]:
    """Grades and reason out of a model's answer, which may stand in a block of code; ValueError for anything else."""
    start, stop = text.find("{"), text.rfind("}")
    if start < 0 or stop < start:
        raise ValueError(f"the answer holds no JSON: {text[:80]}")
    data = json.loads(text[start : stop + 1])
    score = data.get("score")
    if not isinstance(score, list) or len(score) != 2 or not all(isinstance(grade, int | float) for grade in score):
        raise ValueError(f"the answer has no two grades: {text[:80]}")
    if not all(0 <= grade <= 1 for grade in score):
        raise ValueError(f"the grades are outside 0 to 1: {score}")
    return (float(score[0]), float(score[1])), str(data.get("reason", ""))


def _wav(waveform: np.ndarray) -> str:
    stored = io.BytesIO()
    with wave.open(stored, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SPEECH_RATE_HZ)
        out.writeframes(np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2").tobytes())
    return base64.b64encode(stored.getvalue()).decode()
