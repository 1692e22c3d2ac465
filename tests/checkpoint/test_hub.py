"""Repositories of the hub: cached ones are used, unavailable ones are errors. No request leaves this machine."""

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import pytest
from made_up import write_release

from uniavgen.apps.cli import main
from uniavgen.artifacts import is_hub_name
from uniavgen.checkpoint import hub
from uniavgen.checkpoint.published import KINDS, RELEASE

NAME, COMMIT = "someone/a-model", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "source")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and a hub that nobody serves."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    # Whoever runs the tests may have forbidden the client every network, also one that nobody serves.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_PAUSES_S", (0.0,))
    return tmp_path / "cache"


def lay_out(cache: Path, source: Path) -> Path:
    """A repository as the hub's client keeps it: files below their checksums, links below the commit."""
    repository = cache / "models--someone--a-model"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    blobs.mkdir(parents=True)
    for file in (path for path in source.rglob("*") if path.is_file()):
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def argv(release: Path, *more: str) -> list[str]:
    return ["convert", NAME, "--vocab", str(release.parent / "vocab.txt"), *more]


@pytest.mark.parametrize("more", [("--offline",), ("--offline", "--revision", COMMIT), ()])
def test_cached_repository_is_converted_without_a_network(cache, tmp_path, release, more) -> None:
    lay_out(cache, release)
    assert main([*argv(release, *more), "--out", str(tmp_path / "model")]) == 0
    source = json.loads((tmp_path / "model" / "manifest.json").read_text())["source"]
    assert (source["name"], source["commit"]) == (NAME, COMMIT)
    folder_files = {path.relative_to(release).as_posix(): path.stat().st_size for path in release.rglob("*")}
    assert source["files"].items() <= folder_files.items()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--offline",), "someone/a-model is not complete in the hub's cache on this machine; leave out --offline"),
        (("--dry-run",), "not complete in the hub's cache"),
        ((), "someone/a-model could not be fetched from the hub .ConnectError: .*; check the network"),
        (("--offline", "--revision", "other"), "not complete in the hub's cache"),
    ],
)
def test_unavailable_repository_is_an_error(cache, tmp_path, release, capsys, more, words) -> None:
    code = main([*argv(release, *more), "--out", str(tmp_path / "model")])
    message = capsys.readouterr().err.splitlines()
    assert code == 2
    assert message[-1].startswith("uniavgen: ")
    assert re.search(words, message[-1]), message
    assert not (tmp_path / "model").exists()


def test_cached_repository_without_a_shard_is_an_error(cache, tmp_path, release, capsys) -> None:
    snapshot = lay_out(cache, release)
    (snapshot / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    assert main([*argv(release, "--offline"), "--out", str(tmp_path / "model")]) == 2
    assert "1 of the 3 shards" in capsys.readouterr().err


def test_hub_names_have_an_owner_and_a_name() -> None:
    assert is_hub_name("MCG-NJU/UniAVGen")
    assert not any(is_hub_name(text) for text in ("folder", "a/b/c", "../x", "/a/b", "a b/c", ""))


class _Repository(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as its client asks for a download. Each file breaks off once, halfway."""

    address: str
    folder: Path
    broken: set[str]
    fetched: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == f"/api/models/{NAME}/revision/main":
            names = [{"rfilename": name} for name in self._names()]
            self._json({"id": NAME, "sha": COMMIT, "siblings": names, "private": False})
        elif path == f"/api/models/{NAME}/tree/{COMMIT}":
            self._json([self._entry(name) for name in self._names()])
        elif path.startswith("/api/"):
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        else:
            self._file(body=True)

    def _names(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def _entry(self, name: str) -> dict:
        data = (self.folder / name).read_bytes()
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _file(self, body: bool) -> None:
        prefix = f"/{NAME}/resolve/{COMMIT}/"
        if not self.path.startswith(prefix):
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        name = self.path.removeprefix(prefix)
        data, byte_range = (self.folder / name).read_bytes(), self.headers.get("Range")
        start = int(byte_range.removeprefix("bytes=").partition("-")[0]) if byte_range else 0
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}",
        }
        if not body:
            return self._answer(200, data, headers, body=False)
        self.fetched.append(name)
        rest = data[start:]
        if name not in self.broken and len(rest) > 1000:
            self.broken.add(name)
            return self._answer(206 if start else 200, rest, headers, stop=len(rest) // 2)
        return self._answer(206 if start else 200, rest, headers)

    def _json(self, data: object) -> None:
        self._answer(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, data: bytes, headers: dict, body: bool = True, stop: int | None = None) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:stop])
        if stop is not None:
            self.close_connection = True


@pytest.fixture
def served(release):
    """The release on a server of this machine that speaks the hub's interface, its lines breaking."""
    handler = type("Repository", (_Repository,), {"folder": release, "broken": set(), "fetched": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()


def fetched(served, home: Path, name: str = NAME) -> subprocess.CompletedProcess:
    """`fetch` in a process of its own, whose client knows this server only."""
    program = f"""
from uniavgen.checkpoint.hub import fetch
from uniavgen.errors import CheckpointError
try:
    print(fetch({name!r}, {KINDS[RELEASE].needed!r}))
except CheckpointError as error:
    print(error)
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": served.address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)


def test_download_is_complete_although_every_connection_breaks_once(served, release, tmp_path) -> None:
    (release / "assets.bin").write_bytes(b"not needed")
    try:
        got = Path(fetched(served, tmp_path).stdout.strip())
    finally:
        (release / "assets.bin").unlink()
    assert got.name == COMMIT
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert {path.relative_to(got).as_posix() for path in got.rglob("*") if path.is_file()} == names
    assert all((got / name).read_bytes() == (release / name).read_bytes() for name in names)
    assert len(served.broken) > 5
    assert all(served.fetched.count(name) == 2 for name in served.broken)


def test_missing_repository_is_an_error(served, tmp_path) -> None:
    message = fetched(served, tmp_path, "someone/else").stdout
    assert message.startswith("there is no someone/else on the hub, or it is private; check the name")
