"""API keys: a file of names and hashes, one key a line, which is read again when it changes.

    alice  sha256:3f0c...  2027-01-31

The date is the last day on which the key is taken; it may be missing. Keys are 256 random bits, so one SHA-256 of them
tells nothing, and needs no slow hash.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from uniavgen.apps.server.errors import RequestError
from uniavgen.artifacts import read_text
from uniavgen.errors import ConfigError

logger = logging.getLogger(__name__)
LOCAL_OWNER: Final = "local"
"""Whose jobs are made where no key is needed."""
_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,100}")
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """One line of the file."""

    name: str
    digest: str
    expires: date | None


class ApiKeys:
    """The keys of a server; none at all where everybody on this computer may use it."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._keys: list[ApiKey] = []
        self._read_at = -1
        if file is not None:
            self._refresh()
            if not self._keys:
                raise ConfigError(
                    f"{file} holds no API key; make one with uniavgen serve --api-keys {file} --new-key NAME"
                )

    @property
    def are_needed(self) -> bool:
        """Whether requests need a key."""
        return self._file is not None

    def owner(self, authorization: str | None) -> str:
        """Returns the name of the key in an Authorization header. Raises RequestError 401 for one that is not taken."""
        if self._file is None:
            return LOCAL_OWNER
        self._refresh()
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RequestError(401, "this server needs an API key; send it as Authorization: Bearer KEY", **_CHALLENGE)
        digest = _digest(key.strip())
        # All are compared, each in constant time.
        found = [each for each in self._keys if hmac.compare_digest(each.digest, digest)]
        if not found:
            raise RequestError(401, "the API key is not known here; check it, or ask for a new one", **_CHALLENGE)
        expires = found[0].expires
        if expires is not None and datetime.now(UTC).date() > expires:
            raise RequestError(401, f"the API key expired on {expires}; ask for a new one", **_CHALLENGE)
        return found[0].name

    def _refresh(self) -> None:
        """Reads the file if it has changed. Where it is damaged the keys stay, where it is gone none is taken."""
        assert self._file is not None, "there is a file of keys"
        try:
            changed_at = self._file.stat().st_mtime_ns
        except OSError as error:
            if self._read_at < 0:
                raise ConfigError(f"the file of API keys {self._file} cannot be read; check its name") from error
            self._keys = []
            return
        if changed_at == self._read_at:
            return
        try:
            self._keys = read_keys(self._file)
        except ConfigError as error:
            if self._read_at < 0:
                raise
            logger.error("%s; the keys stay as they were", error)
        self._read_at = changed_at


_CHALLENGE: Final = {"WWW_Authenticate": "Bearer"}


def read_keys(file: Path) -> list[ApiKey]:
    """Returns the keys of a file. Raises ConfigError with the number of a line that is none."""
    keys = []
    for number, line in enumerate(read_text(file, ConfigError, "write one key a line").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            name, digest, *rest = words
            (expires,) = [date.fromisoformat(text) for text in rest] or [None]
            if not _NAME.fullmatch(name) or not _HASH.fullmatch(digest):
                raise ValueError
        except ValueError as error:
            raise ConfigError(
                f"line {number} of {file} is not 'NAME sha256:HASH [YYYY-MM-DD]'; let --new-key NAME write it"
            ) from error
        keys.append(ApiKey(name=name, digest=digest, expires=expires))
    return keys


def add_key(file: Path, name: str) -> str:
    """Adds a new key to a file and returns it; nobody can read it from the file later. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the name of a key has letters, figures and . _ @ -, got '{name[:100]}'; choose another")
    key = f"uag-{secrets.token_urlsafe(32)}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a") as opened:
            opened.write(f"{name}  {_digest(key)}\n")
    except OSError as error:
        raise ConfigError(f"the file of API keys {file} cannot be written; choose another place") from error
    return key


def _digest(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
