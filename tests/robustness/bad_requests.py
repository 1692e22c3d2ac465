"""Sends bad requests to a server and checks how it refuses them. Three hundred take a minute:

    python tests/robustness/bad_requests.py --count 300 --seed 1
    python tests/robustness/bad_requests.py --only keys,paths

A case passes where the answer has a status from 400 to 499 and an error of one sentence, without traceback and without
a path of the server. Afterwards the disk must be as before, the log without traceback, text or key, and the server must
still make a clip. Case n of a seed is always the same.
"""

import argparse
import base64
import json
import random
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2 as httpx
from oddities import ODDITIES, PATHS, TEXTS

sys.path.insert(0, str(Path(__file__).parents[1]))
from server.running import SMALL, RunningServer, data_url, finished, picture, recording

OPTIONS = ("--max-image-mb", "1", "--max-audio-mb", "1", "--max-video-mb", "1", "--allow-url", "http://127.0.0.1:9")
SECRET = "a text that nobody else may read"


@dataclass
class Case:
    """A request that must be refused."""

    name: str
    method: str = "POST"
    path: str = "/v1/videos"
    key: str | None = "good"
    """Which key is sent: good, other, expired, another text as it is, or none."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of the client's call: json, data, files, content, headers."""


class Keys:
    """A file with a key of each kind."""

    def __init__(self, file: Path) -> None:
        from uniavgen.apps.server.api_keys import add_key

        self.file = file
        self.known = {name: add_key(file, name) for name in ("good", "other", "expired")}
        lines = [
            f"{line}  2020-01-01" if line.startswith("expired") else line for line in file.read_text().splitlines()
        ]
        file.write_text("\n".join(lines))

    def header(self, name: str | None) -> dict[str, str]:
        """Returns the header of a request."""
        return {} if name is None else {"Authorization": f"Bearer {self.known.get(name, name)}"}


class Maker:
    """Draws cases."""

    def __init__(self, rng: random.Random, foreign: str) -> None:
        self.rng = rng
        self.foreign = foreign
        """Id of a clip of the key `other`."""
        self.good: dict[str, Any] = {"image_reference": data_url(picture()), "prompt": SECRET, **SMALL}

    def fields(self) -> Case:
        """A field of a wrong type or value, or one that does not exist."""
        from uniavgen.apps.server.schemas import VideoRequest

        name = self.rng.choice(
            [*VideoRequest.model_fields, "sped", "auto_duration", "Prompt", "", "x" * 3000, "\ud800"]
        )
        if name in ("seed", "seconds", "trim", "append", "verbatim", "consent", "keep_seconds", "num_frames"):
            value: Any = self.rng.choice(("x", [], {}, -5, 10**40, 1e308, "nan", [1], {"a": 1}, "\u0661x"))
        elif name in ("prompt", "speech", "voice_text", "model", "size", "task"):
            value = self.rng.choice((5, [], {}, True, "\ud800", "x" * 100_000, ["a"], 0.5))
        else:
            value = self.rng.choice([each for each in ODDITIES if each not in (None, [], {}, 1, 2)] or [5])
        return self._json(f"{name[:20]}={str(value)[:20]}", {**self.good, name: value})

    def bodies(self) -> Case:
        """A body that is no request at all."""
        good = json.dumps(self.good).encode()
        body = self.rng.choice(
            (
                *(b"", b" ", b"null", b"[]", b"{", b"5", b'"x"', b"\xff\xfe{}", b"{} {}", b"{'a': 1}", b"\x00" * 100),
                *(b"[" * 50_000, b'{"a":' * 50_000, b'{"seed": ' + b"9" * 5000 + b"}", b'{"seed": NaN}'),
                *(good[: self.rng.randrange(len(good))], good[1:], good + b"}", zlib.compress(good)),
            )
        )
        kind = self.rng.choice(("application/json", "application/json", "multipart/form-data", "text/plain", "x"))
        if self.rng.random() < 0.3:
            kind = self.rng.choice(("multipart/form-data; boundary=x", "application/x-www-form-urlencoded"))
            body = self.rng.choice((body, b"--x\r\n\r\n", b"--x--", b"--x\r\nContent-Disposition: form-data\r\n\r\n"))
        return Case(f"body {body[:20]!r} as {kind}", arguments={"content": body, "headers": {"Content-Type": kind}})

    def huge(self) -> Case:
        """More bytes than are taken: announced, sent in pieces, in a file, in a field, in many fields."""
        which = self.rng.randrange(5)
        if which == 0:
            sizes = ("99999999999", str(10**30), "70000000")
            headers = {"Content-Type": "application/json", "Content-Length": self.rng.choice(sizes)}
            return Case("announced", arguments={"content": b"{}", "headers": headers})
        if which == 1:
            pieces = (bytes(2**16) for _ in range(2000))
            return Case("in pieces", arguments={"content": pieces, "headers": {"Content-Type": "application/json"}})
        if which == 2:
            size = self.rng.choice((2, 6)) * 2**20
            return self._files("large file", {"image_reference": ("a.png", picture() + bytes(size))})
        if which == 3:
            return Case("large field", arguments={"data": {"speech": "x" * 200_000}, "files": {"a": b"x"}})
        form = {f"field{number}": "x" for number in range(200)}
        return Case("many fields", arguments={"data": form, "files": {"image_reference": picture()}})

    def media(self) -> Case:
        """Pictures, recordings and videos that are damaged, bombs, or something else."""
        png, wav = picture(), recording()
        files = {
            "cut picture": png[: self.rng.randrange(8, len(png) - 20)],
            "picture bomb": _png(60_000, 60_000),
            "long picture": _png(8000, 8000),
            "small picture": picture(8),
            "cut recording": wav[: self.rng.randrange(12, 44)],
            "zip bomb": b"PK\x03\x04" + zlib.compress(bytes(10**8)),
            "gzip bomb": b"\x1f\x8b" + zlib.compress(bytes(10**8)),
            "playlist": b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST",
            "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
            "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
            "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n",
            "html": b"<script>alert(1)</script>",
            "nothing": b"",
            "zeros": bytes(5000),
            "mp4 head": b"\0\0\0\x18ftypmp42" + self.rng.randbytes(2000),
            "mkv head": b"\x1aE\xdf\xa3" + self.rng.randbytes(2000),
            "avi head": b"RIFF\xff\xff\xff\x7fAVI LIST" + self.rng.randbytes(500),
            "ogg head": b"OggS\0\x02" + self.rng.randbytes(500),
            "webp head": b"RIFF\xff\xff\xff\xffWEBPVP8X" + self.rng.randbytes(50),
            "tiff": b"II*\0\xff\xff\xff\xff" + self.rng.randbytes(99),
            "jpeg head": b"\xff\xd8\xff\xe0" + self.rng.randbytes(300),
        }
        name = self.rng.choice([*files])
        kind = self.rng.choice(("image", "image", "audio", "video", "input"))
        if kind == "audio" and name == "cut recording":
            kind = "image"
        if self.rng.random() < 0.5:
            path = self.rng.choice([path for path in PATHS if path and path.isprintable()])
            return self._files(f"{kind} {name}", {f"{kind}_reference": (path, files[name])})
        url = data_url(files[name], self.rng.choice(("image/png", "video/mp4", "", "text/html", "a/b;c=d")))
        return self._json(f"{kind} {name} as data", {**SMALL, f"{kind}_reference": url, "prompt": SECRET})

    def urls(self) -> Case:
        """URLs that lead inside, elsewhere, or nowhere."""
        url = self.rng.choice(
            (
                *("http://127.0.0.1:9/a.png", "http://localhost/a.png", "http://169.254.169.254/latest/meta-data/"),
                *(
                    "http://[::1]/",
                    "http://0.0.0.0/",
                    "http://10.0.0.1/x",
                    "http://[::ffff:127.0.0.1]/",
                    "http://2130706433/",
                ),
                *("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "/etc/passwd", "//127.0.0.1/x"),
                *(
                    "http://127.0.0.1:9@example.org/",
                    "http://example.org:x/",
                    "http://",
                    "https://",
                    "concat:a|b",
                    "pipe:0",
                ),
                *(
                    "data:",
                    "data:,x",
                    "data:image/png,x",
                    "data:image/png;base64",
                    "data:image/png;base64,%%%%",
                    "x" * 50_000,
                ),
                *("http://127.0.0.1:9/a b\r\nX: y", "http://127.0.0.1:9/\u4f60", "http://127.0.0.1:99999/", "\ud800"),
            )
        )
        value = self.rng.choice((url, {"image_url": url}, {"url": url}, [url], {"video_url": url, "image_url": url}))
        return self._json(f"url {url[:40]!r}", {**SMALL, "image_reference": value, "prompt": SECRET})

    def paths(self) -> Case:
        """Ids and routes that lead out of the server's folder, or to the clips of others."""
        inner = self.rng.choice(
            (
                *(
                    self.foreign,
                    self.foreign.upper(),
                    f"{self.foreign}/",
                    "..",
                    "../jobs.sqlite",
                    "..%2f..%2fetc%2fpasswd",
                ),
                *("video_" + "0" * 32, "%00", "a" * 500, "*", "'; DROP TABLE jobs--", "\u4f60", "None", "video.mp4"),
            )
        )
        inner = inner if "%" in inner else quote(inner, safe="/.")
        which = self.rng.choice(("", "/content", "/events", "/content?variant=../../x", "/content?variant=thumbnail"))
        method = self.rng.choice(("GET", "GET", "GET", "DELETE")) if not which else "GET"
        if self.rng.random() < 0.2:
            routes = (
                "/etc/passwd",
                "/v1/../../etc",
                "/redoc",
                "/v1/video",
                "/v1/videos/sync/x/y",
                "/.env",
                "/static/x",
            )
            return Case("route", "GET", self.rng.choice(routes))
        if self.rng.random() < 0.2:
            reference = self.rng.choice((self.foreign, inner, "../" * 9 + "etc/passwd"))
            return self._json("file id", {**SMALL, "video_reference": {"file_id": reference}})
        return Case(f"{method} {inner[:30]}{which}", method, f"/v1/videos/{inner}{which}")

    def keys(self) -> Case:
        """Keys that are missing, wrong or over, and pages of other sites."""
        odd = ("wrong", "", "x" * 5000, "good", "uag-", "a b c", "\u00e9", "null")
        key = self.rng.choice(("expired", "expired", None, *(f"{each}!" for each in odd)))
        method, path = self.rng.choice(
            (("POST", "/v1/videos"), ("GET", "/v1/videos"), ("DELETE", f"/v1/videos/{self.foreign}"),
             ("GET", "/metrics"), ("GET", f"/v1/videos/{self.foreign}/content"), ("GET", "/v1/models"))
        )  # fmt: skip
        if self.rng.random() < 0.3:
            headers = {"Origin": self.rng.choice(("https://evil.example", "null", "http://127.0.0.1:1", "http://["))}
            return Case("origin", arguments={"json": self.good, "headers": headers})
        if self.rng.random() < 0.2:
            headers = {"Authorization": self.rng.choice(("Basic Z29vZDpnb29k", "Bearer", "bearer  ", "Token x"))}
            return Case("scheme", method, path, None, {"headers": headers})
        return Case(f"key {key}", method, path, key, {"json": self.good} if method == "POST" else {})

    def questions(self) -> Case:
        """Parameters and methods that do not exist."""
        texts = ("-1", "0", "101", "x", "1e9", "9" * 50, "\u0661")
        path = self.rng.choice(("limit=", "order=")) + quote(self.rng.choice(texts))
        method = self.rng.choice(("PUT", "PATCH", "TRACE"))
        return self.rng.choice(
            (
                Case(path, "GET", f"/v1/videos?{path}"),
                Case(method, method, "/v1/videos"),
                Case("idempotency", arguments={"json": self.good, "headers": {"Idempotency-Key": "x" * 400}}),
                Case("idempotency", arguments={"json": self.good, "headers": {"Idempotency-Key": "a b"}}),
                self._json("text", {**self.good, "speech": self._unspeakable()}),
            )
        )

    def _unspeakable(self) -> str:
        return self.rng.choice([text for text in TEXTS if not text.strip() or len(text) > 4000 or "\ud800" in text])

    def _json(self, name: str, data: Any) -> Case:
        content = json.dumps(data).encode()
        return Case(name, arguments={"content": content, "headers": {"Content-Type": "application/json"}})

    def _files(self, name: str, files: dict[str, Any]) -> Case:
        form = {"speech": SECRET, "num_frames": "17"}
        return Case(name, arguments={"data": form, "files": files})


FAMILIES: dict[str, Callable[[Maker], Case]] = {
    name: getattr(Maker, name) for name in ("fields", "bodies", "huge", "media", "urls", "paths", "keys", "questions")
}


def _png(width: int, height: int) -> bytes:
    """A picture of zeros, a thousandth of what it becomes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packed = zlib.compressobj(1)
    rows = b"".join(packed.compress(bytes(width + 1)) for _ in range(min(height, 500))) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def send(client: httpx.Client, case: Case, keys: Keys) -> tuple[int, str]:
    """Returns status and body of the answer."""
    arguments = dict(case.arguments)
    headers = {**keys.header(case.key), **arguments.pop("headers", {})}
    is_odd = any(not value.isascii() or value != value.strip() for value in headers.values())
    if is_odd or case.name == "announced" or case.method == "TRACE":
        return _send_raw(client, case, headers)
    try:
        answer = client.request(case.method, case.path, headers=headers, **arguments)
        return answer.status_code, answer.text
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError) as error:
        # The server may close the connection while endless pieces are still being sent.
        return (413, json.dumps({"error": {"message": "closed"}})) if case.name == "in pieces" else (0, repr(error))
    except (UnicodeError, httpx.LocalProtocolError) as error:
        return 0, f"the client cannot send this: {error!r}"


def _send_raw(client: httpx.Client, case: Case, headers: dict[str, str]) -> tuple[int, str]:
    address = urlsplit(str(client.base_url))
    lines = [f"{case.method} {case.path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close"]
    headers.setdefault("Content-Length", "0")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((address.hostname, address.port)) as sock:
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        data = b"".join(iter(lambda: sock.recv(2**16), b"")).decode()
    head, _, body = data.partition("\r\n\r\n")
    return int(head.split()[1]), body


def wrong_with(status: int, text: str, data_dir: Path) -> list[str]:
    """Returns what is wrong with an answer."""
    wrong = [] if 400 <= status < 500 else [f"status {status}"]
    if "Traceback" in text or str(data_dir) in text or '.py"' in text:
        wrong.append("a traceback or a path of the server")
    try:
        sentence = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        # What is no HTTP is refused by the server's parser.
        return wrong if text == "Invalid HTTP request received." else [*wrong, "no error of one sentence"]
    if not sentence or len(sentence) > 1500 or "\n" in sentence:
        wrong.append("no single sentence")
    return wrong


def main() -> int:
    """Runs the cases and prints those that failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(FAMILIES))
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder) / "keys.txt")
        options_of_server = (*OPTIONS, "--api-keys", str(keys.file))
        with RunningServer(Path(folder) / "data", *options_of_server) as server, server.client() as client:
            foreign = client.post("/v1/videos", json=Maker(random.Random(0), "").good, headers=keys.header("other"))
            foreign_id = foreign.json()["id"]
            client.headers.update(keys.header("other"))
            finished(client, foreign_id)
            client.headers.pop("Authorization")
            before = _disk(server)
            for number in range(options.count):
                rng = random.Random(f"{options.seed}/{number}")
                family = rng.choice(options.only.split(","))
                case = FAMILIES[family](Maker(rng, foreign_id))
                status, text = send(client, case, keys)
                if wrong := wrong_with(status, text, server.data_dir):
                    failed += 1
                    print(f"case {number}, {family}, {case.name}: {'; '.join(wrong)}: {text[:300]}")
            failed += _check_after(server, client, keys, before, foreign_id)
    print(f"{failed} of {options.count} failed")
    return 1 if failed else 0


def _disk(server: RunningServer) -> list[str]:
    return sorted(str(path) for path in (server.data_dir / "jobs").rglob("*"))


def _check_after(server: RunningServer, client: httpx.Client, keys: Keys, before: list[str], foreign_id: str) -> int:
    """Returns how much is wrong with disk, log and server."""
    log = server.log.read_text()
    headers = keys.header("other")
    video = client.get(f"/v1/videos/{foreign_id}/content", headers=headers)
    private = (SECRET, *keys.known.values(), foreign_id, base64.b64encode(picture())[:60].decode())
    wrong = {
        "files were left": _disk(server) != before,
        "a traceback in the log": "Traceback" in log or " in\n" in log,
        "a text, key or id in the log": any(text in log for text in private),
        "the clip of another key is gone": video.content[4:8] != b"ftyp",
        "no clip can be made": client.post(
            "/v1/videos/sync", json=Maker(random.Random(0), "").good, headers=headers
        ).status_code != 200,
    }  # fmt: skip
    for what in (text for text, is_wrong in wrong.items() if is_wrong):
        print(what)
    if any(wrong.values()):
        print(log[-3000:])
    return sum(wrong.values())


if __name__ == "__main__":
    sys.exit(main())
