"""Captions: what an endpoint is sent and answers, retries, and the sentence that stands where it has none."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from tests.data_engine.talking_films import CLIPS, write_talking

from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.segment import SpeechSegment
from uniavgen.data_engine.stage import StageContext, StageOutput
from uniavgen.data_engine.stages.caption import KEY_VARIABLE, CaptionConfig, CaptionStage
from uniavgen.errors import ConfigError

GOOD = "A young woman with brown hair looks calmly into the camera."


class _Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.headers["Authorization"], body))
        speech = body["messages"][0]["content"][0]["text"].splitlines()[0]
        answer = self.server.answer(speech)
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        if isinstance(answer, str):
            self.wfile.write(json.dumps({"choices": [{"message": {"content": answer}}]}).encode())

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def model():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def film(tmp_path):
    """A source of two clips with a segment in each, and the outputs that captions need."""
    source = write_talking(tmp_path / "a.mp4", CLIPS[:2])
    segments = [
        SpeechSegment(
            start_s=start_s, end_s=start_s + 3, shot=track, track=track, num_faces=1 + track, face_share=1.0,
            speech_share=1.0, mouth_movement=0.1, mouth_loudness=0.5,
        )
        for track, start_s in enumerate((1.0, 6.0))
    ]  # fmt: skip
    boxes = FaceBoxes(
        shots=np.array([0, 1]),
        track=np.array([0, 1]),
        time_s=np.array([2.0, 7.0]),
        box=np.array([[0.2, 0.2, 0.7, 0.7], [0.4, 0.4, 0.5, 0.5]]),
        is_confirmed=np.array([True, True]),
        mouth_opening=np.zeros(2),
    )
    words = [
        {"text": text, "start_s": start_s, "end_s": start_s + 0.4, "language": language}
        for text, start_s, language in (("Hello", 1.5, "en"), ("there.", 2.0, "en"), ("Bonjour!", 6.5, "fr"))
    ]
    return source, {
        "segments": StageOutput(values={"segments": [segment.values() for segment in segments]}),
        "faces": StageOutput(arrays=boxes.arrays()),
        "transcript": StageOutput(values={"words": words}),
    }


def _caption(film, server=None, **settings):
    source, inputs = film
    address = {"url": f"http://127.0.0.1:{server.server_port}/v1", "model": "m"} if server else {}
    stage = CaptionStage(CaptionConfig(wait_s=0.0, **address, **settings), StageContext())
    return stage(source, inputs).values["segments"]


def test_caption_without_a_model_says_what_was_measured(film):
    assert _caption(film) == [
        {"text": "A close-up of a person who is speaking English.", "written_by": "measurements"},
        {"text": "A wide shot of one of 2 people who is speaking French.", "written_by": "measurements"},
    ]


def test_model_is_sent_frames_and_speech_of_each_segment(film, model, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    model.answer = lambda speech: f'Sure: {{"caption": "{GOOD} {"One" if "Hello" in speech else "Two"}"}}'
    rows = _caption(film, model, frames=3)
    assert [row["text"] for row in rows] == [f"{GOOD} One", f"{GOOD} Two"]
    assert {row["written_by"] for row in rows} == {"m"}
    assert {key for key, _ in model.requests} == {"Bearer secret"}
    contents = [body["messages"][0]["content"] for _, body in model.requests]
    assert sorted(content[0]["text"].splitlines()[0].rpartition("say: ")[2] for content in contents) == [
        '"Bonjour!"', '"Hello there."',
    ]  # fmt: skip
    for content in contents:
        urls = [part["image_url"]["url"] for part in content[1:]]
        assert len(urls) == 3
        assert all(url.startswith("data:image/jpeg;base64,") for url in urls)


def test_answers_that_cannot_be_used_are_asked_for_again(film, model):
    answers = {"Hello": [503, "no JSON", json.dumps({"caption": GOOD})], "Bonjour": ['{"caption": "Too short"}'] * 9}
    model.answer = lambda speech: answers["Hello" if "Hello" in speech else "Bonjour"].pop(0)
    first, second = _caption(film, model, tries=3)
    assert first == {"text": GOOD, "written_by": "m"}
    assert second["written_by"] == "measurements"
    assert second["reason"] == "no caption in 3 tries (the caption has 2 words)"
    assert len(model.requests) == 6


def test_caption_settings_are_checked():
    with pytest.raises(ConfigError, match="both url and model"):
        CaptionConfig(url="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="the model's address begins with http"):
        CaptionStage(CaptionConfig(url="ftp://a", model="m"), StageContext())
