"""What a viewer sees in each segment, in words: by a multimodal model at an address, else from what was measured."""

import base64
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uniavgen.artifacts import parse_json
from uniavgen.config import Config
from uniavgen.config.values import NonNegative, PositiveInt
from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.segment import SpeechSegment, grouped_moments, segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageContext, StageOutput
from uniavgen.errors import ConfigError
from uniavgen.media.frame_stream import sample_frames
from uniavgen.media.reader import open_media
from uniavgen.perception.chat_endpoint import ChatAnswerError, ChatEndpoint

KEY_VARIABLE: Final = "UNIAVGEN_CAPTION_KEY"
"""Environment variable with the key of the address; it is in no settings, so in no record."""
RUBRIC: Final = """The pictures are frames, in their order, of one shot in which a person speaks. They say: {speech}

Describe the shot in one to three plain English sentences, as somebody who sees it for the first time:
1. the person: apparent age group and gender, hair, clothes, posture;
2. the face: expression, the emotion that it shows, where the eyes look, what head and hands do;
3. the place, the light, how close the camera is and whether it moves.
Leave out what you cannot see. Do not repeat what is said. Guess no name, origin, belief or state of health.

Answer with JSON only: {{"caption": "..."}}."""
_FRAMINGS: Final = ((0.45, "A close-up"), (0.22, "A medium close-up"), (0.12, "A medium shot"), (0.0, "A wide shot"))
"""Least height of the face's box over that of the picture, and what such a picture is called. [ours]"""


@dataclass(frozen=True, kw_only=True)
class CaptionConfig(Config):
    """Settings of `CaptionStage`."""

    url: str = ""
    """Base address of an endpoint with OpenAI's chat completions, as http://127.0.0.1:8000/v1; empty for none."""
    model: str = ""
    frames: PositiveInt = 4
    """A segment. [ours]"""
    short_side_px: PositiveInt = 480
    """Of these frames."""
    parallel: PositiveInt = 8
    """Requests at once."""
    tries: PositiveInt = 4
    """For a caption."""
    wait_s: NonNegative = 1.0
    """Before the second try; twice as long before each further one."""
    min_words: PositiveInt = 5
    max_words: PositiveInt = 150
    """Of a caption; others are asked for again."""

    def __post_init__(self) -> None:
        if bool(self.url) != bool(self.model):
            raise ConfigError(f"captions need both url and model, or none, got '{self.url}' and '{self.model}'")


class CaptionStage(Stage):
    """Describes each segment.

    Values: segments (text; written_by, the model's name or "measurements"; reason, why the model wrote none).
    """

    name = "caption"
    requires = ("segments", "faces", "transcript")
    settings_class = CaptionConfig
    settings: CaptionConfig

    def __init__(self, settings: CaptionConfig, context: StageContext) -> None:
        super().__init__(settings, context)
        key = os.environ.get(KEY_VARIABLE, "")
        self._endpoint = ChatEndpoint(url=settings.url, model=settings.model, key=key) if settings.url else None

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments = segments_of(inputs["segments"])
        boxes, words = FaceBoxes.of(inputs["faces"].arrays), inputs["transcript"].values["words"]
        texts = [measured_caption(s, boxes, words) for s in segments]
        rows: list[dict[str, str]] = [{"text": text, "written_by": "measurements"} for text in texts]
        if self._endpoint is not None:
            for row, answer in zip(rows, self._answers(self._endpoint, source, segments, words), strict=True):
                row |= answer
        return StageOutput(values={"segments": rows})

    def _answers(
        self,
        endpoint: ChatEndpoint,
        source: SourceVideo,
        segments: Sequence[SpeechSegment],
        words: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, str]]:
        """Returns what replaces the measured captions: a text of the model, or the reason why there is none."""
        pictures: list[list[dict[str, Any]]] = [[] for _ in segments]
        answers: list[Future[dict[str, str]]] = []
        moments = list(grouped_moments(list(segments), self.settings.frames))
        with ThreadPoolExecutor(self.settings.parallel) as pool, open_media(source.path, quiet=True) as reader:
            frames = sample_frames(reader, [time_s for _, time_s in moments], self.settings.short_side_px)
            for (index, _), frame in zip(moments, frames, strict=False):
                pictures[index].append({"type": "image_url", "image_url": {"url": _data_url(frame.pixels)}})
            for segment, shown in zip(segments, pictures, strict=True):
                text = RUBRIC.format(speech=json.dumps(_speech(segment, words), ensure_ascii=False))
                body = endpoint.chat_body([{"type": "text", "text": text}, *shown])
                answers.append(pool.submit(self._answer, endpoint, body))
            return [answer.result() for answer in answers]

    def _answer(self, endpoint: ChatEndpoint, body: bytes) -> dict[str, str]:
        reason = ""
        for attempt in range(self.settings.tries):
            if attempt:
                time.sleep(self.settings.wait_s * 2 ** (attempt - 1))
            try:
                return {"text": self._checked(endpoint.complete(body)), "written_by": endpoint.model}
            except ChatAnswerError as error:
                reason = str(error)
        return {"reason": f"no caption in {self.settings.tries} tries ({reason})"}

    def _checked(self, answer: str) -> str:
        """Returns the caption in an answer; raises ChatAnswerError where there is none that can be used."""
        begin, end = answer.find("{"), answer.rfind("}")
        if not 0 <= begin < end:
            raise ChatAnswerError(f"the answer holds no JSON: {answer[:80]}")
        data = parse_json(answer[begin : end + 1], "the message", ChatAnswerError, "ask for JSON")
        text = data.get("caption") if isinstance(data, dict) else None
        if not isinstance(text, str):
            raise ChatAnswerError(f"the answer holds no caption: {answer[:80]}")
        text = " ".join(text.split())
        if not self.settings.min_words <= len(text.split()) <= self.settings.max_words:
            raise ChatAnswerError(f"the caption has {len(text.split())} words")
        return text


def measured_caption(segment: SpeechSegment, boxes: FaceBoxes, words: Sequence[Mapping[str, Any]]) -> str:
    """Returns a sentence that says no more than was measured: framing, people, and which language is spoken."""
    box = boxes.of_track(segment.track, segment.start_s, segment.end_s).box
    height = float(np.median(box[:, 3] - box[:, 1])) if len(box) else 0.0
    framing = next(name for least, name in _FRAMINGS if height >= least)
    people = "a person" if segment.num_faces <= 1 else f"one of {segment.num_faces} people"
    languages = [word["language"] for word in _words_in(segment, words)]
    language = max(sorted(set(languages)), key=languages.count) if languages else ""
    return f"{framing} of {people} who is speaking{_in_language(language)}."


def _in_language(code: str) -> str:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return f" {LANGUAGES[code].title()}" if code in LANGUAGES else ""


def _words_in(segment: SpeechSegment, words: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [word for word in words if segment.start_s <= (word["start_s"] + word["end_s"]) / 2 < segment.end_s]


def _speech(segment: SpeechSegment, words: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(word["text"] for word in _words_in(segment, words))


def _data_url(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
