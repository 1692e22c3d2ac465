"""Fetches references from origins that the operator allows: no private addresses, no redirects, limited in size and
time."""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from uniavgen.apps.server.errors import RequestError

TIMEOUT_S: Final = 20.0
_CHUNK: Final = 2**16
AddressRule = Callable[[str], bool]


def is_public(address: str) -> bool:
    """Returns whether an IP address is that of a computer on the internet."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not ip.is_multicast


def fetch(
    url: str, origins: Collection[str], out: Path, max_bytes: int, is_allowed_address: AddressRule = is_public
) -> None:
    """Writes what a URL holds to `out`. Raises RequestError 400 for what may not or cannot be fetched, 413 for what is
    too large."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise RequestError(400, "the URL of a reference has no valid port; send a data URL or the file") from error
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if origin not in {text.rstrip("/").lower() for text in origins}:
        allowed = ", ".join(origins) or "none"
        raise RequestError(
            400, f"references are not fetched from '{origin[:100]}' (allowed: {allowed}); send a data URL or the file"
        )
    host = parts.hostname or ""
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    if not target.isascii() or not target.isprintable() or " " in target:
        raise RequestError(400, "the URL of a reference has letters that a URL cannot have; encode them")
    started = time.monotonic()
    try:
        connection = _connect(host, port, parts.scheme == "https", is_allowed_address)
        try:
            connection.request("GET", target, headers={"Accept-Encoding": "identity"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RequestError(400, f"'{origin}' answered with status {answer.status}; check the URL")
            _write(answer, out, max_bytes, started + TIMEOUT_S)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(400, f"the reference at '{origin}' could not be fetched; send the file") from error


def _connect(host: str, port: int | None, is_secure: bool, is_allowed: AddressRule) -> http.client.HTTPConnection:
    """Connects to an address that was checked, so that the name cannot lead elsewhere in the meantime."""
    port = port or (443 if is_secure else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    if not addresses or not all(is_allowed(address) for address in addresses):
        raise RequestError(400, f"'{host}' leads into a private network, from which nothing is fetched; send the file")
    sock = socket.create_connection((addresses[0], port), TIMEOUT_S)
    if is_secure:
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    connection.sock = sock
    return connection


def _write(answer: http.client.HTTPResponse, out: Path, max_bytes: int, deadline: float) -> None:
    size = 0
    with out.open("wb") as file:
        while chunk := answer.read1(_CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise RequestError(413, f"a reference has more than {max_bytes // 2**20} MiB; send a smaller one")
            if time.monotonic() > deadline:
                raise RequestError(400, f"a reference took more than {TIMEOUT_S:g} s to fetch; send the file")
            file.write(chunk)
