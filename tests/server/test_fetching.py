"""URLs: only origins that are allowed, never private addresses, no redirects, bounded in size."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.fetching import fetch, is_public


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/picture")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x" * (100 if self.path == "/picture?a=1" else 5000))

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@pytest.fixture
def origin() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Site) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()
        thread.join()


def test_allowed_origin_is_fetched(origin, tmp_path):
    out = tmp_path / "file"
    fetch(f"{origin}/picture?a=1", [origin], out, 1000, is_allowed_address=lambda _: True)
    assert out.read_bytes() == b"x" * 100


def test_private_address_is_refused_even_where_its_origin_is_allowed(origin, tmp_path):
    with pytest.raises(RequestError, match="leads into a private network"):
        fetch(f"{origin}/picture", [origin], tmp_path / "file", 1000)
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [("/moved", 400, "answered with status 302"), ("/large", 413, "has more than 0 MiB"), ("/a b", 400, "cannot have")],
)
def test_answers_that_are_not_taken(origin, tmp_path, path, status, sentence):
    with pytest.raises(RequestError, match=sentence) as refused:
        fetch(f"{origin}{path}", [origin], tmp_path / "file", 1000, is_allowed_address=lambda _: True)
    assert refused.value.status == status


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "{origin}@evil.example/", "file:///etc/passwd", "http://x:y/"])
def test_other_origins_are_refused(origin, tmp_path, url):
    with pytest.raises(RequestError, match=r"not fetched from|no valid port"):
        fetch(url.replace("{origin}", origin), [origin], tmp_path / "file", 1000, is_allowed_address=lambda _: True)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *(
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "ff02::1",
        ),
    ],
)
def test_addresses_inside_are_no_public_ones(address):
    assert not is_public(address)


def test_public_addresses_are_public():
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1::1")
