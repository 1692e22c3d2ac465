"""The judge: what a stand-in endpoint on this machine is sent, and what becomes of its answers."""

import base64
import io
import json
import threading
import wave
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from uniavgen.errors import ConfigError
from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
from uniavgen.evaluation.metric import MetricContext, NotMeasuredNow
from uniavgen.evaluation.metrics.judge import RUBRIC, Judge, judge_columns, parse_answer
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.chat_endpoint import ChatAnswerError
from uniavgen.perception.errors import NotMeasured

from .builders import plain_clip, write_noise

PROMPT = Prompt(id="a")


class _StandIn(HTTPServer):
    """Remembers requests and gives prepared answers in turn: a message, raw bytes, a number as an HTTP error, or a
    number and an address as a redirect."""

    def __init__(self, answers) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.requests = list(answers), []


class _Handler(BaseHTTPRequestHandler):
    server: _StandIn

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers), None))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        answer = self.server.answers.pop(0)
        if isinstance(answer, bytes):
            self.wfile.write(answer)
            return
        if isinstance(answer, tuple):
            self.send_response(answer[0])
            self.send_header("Location", answer[1])
            self.end_headers()
            return
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if isinstance(answer, str):
            self.wfile.write(json.dumps({"choices": [{"message": {"content": answer}}]}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served():
    """Start a stand-in with its answers; it stops when the test ends."""
    servers = []

    def start(*answers) -> tuple[_StandIn, JudgeEndpoint]:
        server = _StandIn(answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server, JudgeEndpoint(
            url=f"http://127.0.0.1:{server.server_port}/v1/", model="some/Omni-2", key="secret"
        )

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _grades(a: float, b: float) -> str:
    return json.dumps({"score": [a, b], "reason": "so"})


def test_judge_averages_three_answers_and_sends_rubric_video_and_audio(served, tmp_path):
    server, endpoint = served(_grades(1, 0), "```json\n" + _grades(0.5, 0.25) + "\n```", _grades(0.75, 0.5))
    path = write_noise(tmp_path / "a.mp4")
    clip = plain_clip(path=path)
    result = Judge(MetricContext(judge=endpoint)).measure(clip, PROMPT)
    assert result.scores == pytest.approx({"tc_omni_2": 0.75, "ec_omni_2": 0.25})
    assert result.details == {"judge's reasons": ["so"] * 3}
    for where, headers, body in server.requests:
        assert where == "/v1/chat/completions"
        assert headers["Authorization"] == "Bearer secret"
        assert body["model"] == "some/Omni-2"
        text, video, sound = body["messages"][0]["content"]
        assert text == {"type": "text", "text": RUBRIC}
        kind, _, data = video["video_url"]["url"].partition(",")
        assert (kind, base64.b64decode(data)) == ("data:video/mp4;base64", path.read_bytes())
        with wave.open(io.BytesIO(base64.b64decode(sound["input_audio"]["data"]))) as wav:
            assert (wav.getframerate(), wav.getnchannels(), wav.getnframes()) == (16_000, 1, len(clip.waveform))
            samples = np.frombuffer(wav.readframes(-1), "<i2")
        np.testing.assert_allclose(samples / 32768, clip.waveform, atol=1 / 32768)


def test_judge_is_asked_again_after_an_answer_without_grades(served, tmp_path):
    server, endpoint = served(500, "I like it.", _grades(1, 1), _grades(1, 1), _grades(0.7, 0.1))
    clip = plain_clip(path=write_noise(tmp_path / "a.mp4"))
    assert Judge(MetricContext(judge=endpoint)).measure(clip, PROMPT).scores["tc_omni_2"] == pytest.approx(0.9)
    assert len(server.requests) == 5


def test_judge_that_never_answers_is_asked_in_a_later_run_again(served, tmp_path):
    _, endpoint = served(503, 503, 503)
    clip = plain_clip(path=write_noise(tmp_path / "a.mp4"))
    with pytest.raises(NotMeasuredNow, match=r"no grades in 3 tries \(HTTPError: HTTP Error 503"):
        Judge(MetricContext(judge=endpoint)).measure(clip, PROMPT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no", "no JSON"),
        ('{"score": 1}', "no two grades"),
        ('{"score": [1, 0.5, 0]}', "no two grades"),
        ('{"score": [1, "good"]}', "no two grades"),
        ('{"score": [1, 75]}', "outside 0 to 1"),
        ('{"score": [1, NaN]}', "not JSON"),
        ('{"score": ' + "[" * 50_000 + "}", "nested too deeply"),
    ],
)
def test_answers_without_two_grades_are_refused(text, words):
    with pytest.raises(ChatAnswerError, match=words):
        parse_answer(text)


def test_papers_columns_are_filled_by_the_papers_judge_alone():
    assert [column.name for column in judge_columns("google/gemini-2.5-pro")] == ["tc", "ec"]
    assert [column.name for column in judge_columns("gemini-2.5-flash")] == [
        "tc_gemini_2_5_flash",
        "ec_gemini_2_5_flash",
    ]


def test_clip_without_sound_is_not_judged():
    judge = Judge(MetricContext(judge=JudgeEndpoint(url="http://127.0.0.1:1", model="m")))
    with pytest.raises(NotMeasured, match="no sound track"):
        judge.measure(plain_clip(waveform=None), PROMPT)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_key_is_never_sent_where_a_redirect_leads(code, served, tmp_path):
    other, other_endpoint = served()
    # The same host under another name and port, as a redirect to a foreign host is.
    address = other_endpoint.url.replace("127.0.0.1", "localhost") + "chat/completions"
    server, endpoint = served(*[(code, address)] * 3)
    clip = plain_clip(path=write_noise(tmp_path / "a.mp4"))
    with pytest.raises(NotMeasuredNow, match=f"HTTP Error {code}") as caught:
        Judge(MetricContext(judge=endpoint)).measure(clip, PROMPT)
    assert len(server.requests) == 3
    assert other.requests == []
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"no HTTP at all\r\n\r\n",
        b"",
        b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.0 200 OK\r\n\r\n\xff",
        b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 50_000,
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b'HTTP/1.0 200 OK\r\n\r\n{"choices": []}',
        b"HTTP/1.0 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    ],
)
def test_damaged_answers_are_no_grades(answer, served):
    _, endpoint = served(answer)
    with pytest.raises(ChatAnswerError):
        endpoint.complete(b"{}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "file:///etc/hosts"}, "begins with http"),
        ({"url": "http://"}, "HOST:PORT"),
        ({"url": "http://[::1"}, "HOST:PORT"),
        ({"url": "http://host:port/"}, "HOST:PORT"),
        ({"url": "http://host:99999/"}, "HOST:PORT"),
        ({"url": "http://host/a b\r\nX: y"}, "HOST:PORT"),
        ({"url": "http://\udc80/"}, "HOST:PORT"),
        ({"key": "abc\nX: y"}, "the judge's key"),
        ({"key": "k\u00e9y"}, "the judge's key"),
    ],
)
def test_addresses_and_keys_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        JudgeEndpoint(**{"url": "http://127.0.0.1:1", "model": "m", **changes})
    assert changes.get("key", "secret") not in str(caught.value)
