"""Keys: a file of hashes, expiry, taking back while the server runs, and what is refused."""

import os
import re
from datetime import UTC, datetime, timedelta

import pytest

from uniavgen.apps.cli import main
from uniavgen.apps.server.api_keys import LOCAL_OWNER, ApiKeys, add_key
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.errors import ConfigError


def _write(file, text: str) -> None:
    """Writes a file at a time of its own, since two writes can share one tick of the clock."""
    file.write_text(text)
    later = file.stat().st_mtime_ns + 10**9
    os.utime(file, ns=(later, later))


def test_new_key_is_printed_once_and_only_its_hash_is_stored(tmp_path, capsys):
    file = tmp_path / "keys.txt"
    assert main(["serve", "--api-keys", str(file), "--new-key", "alice"]) == 0
    key = capsys.readouterr().out.strip()
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert ApiKeys(file).owner(f"Bearer {key}") == "alice"


def test_keys_are_refused_when_wrong_expired_or_taken_back(tmp_path):
    file = tmp_path / "keys.txt"
    alice, bob = add_key(file, "alice"), add_key(file, "bob")
    first, second = file.read_text().splitlines()
    keys = ApiKeys(file)
    assert (keys.owner(f"bearer {alice}"), keys.owner(f"Bearer {bob}")) == ("alice", "bob")
    today = datetime.now(UTC).date()
    _write(file, f"{first}  {today}\n{second}  {today - timedelta(days=1)}\n")
    assert keys.owner(f"Bearer {alice}") == "alice"
    for header in (f"Bearer {bob}", f"Bearer {alice[:-1]}", f"Basic {alice}", alice, "Bearer ", "", None):
        with pytest.raises(RequestError) as refused:
            keys.owner(header)
        assert (refused.value.status, refused.value.headers) == (401, {"WWW-Authenticate": "Bearer"})
        assert alice not in str(refused.value)
    _write(file, "not a key")
    assert keys.owner(f"Bearer {alice}") == "alice", "a file that is being written keeps the keys"
    file.unlink()
    with pytest.raises(RequestError, match="is not known here"):
        keys.owner(f"Bearer {alice}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("alice secret", "line 1 of .* is not 'NAME sha256:HASH"),
        ("# nobody\n\nalice sha256:" + "0" * 63, "line 3"),
        ("alice sha256:" + "0" * 64 + " tomorrow", "line 1"),
        ("# nobody", "holds no API key"),
    ],
)
def test_damaged_file_is_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "keys.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        ApiKeys(file)


def test_keys_are_needed_where_others_can_connect(tmp_path, capsys):
    assert ApiKeys(None).owner(None) == LOCAL_OWNER
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ConfigError, match="needs --api-keys FILE"):
            ServerConfig(host=host)
        assert not ServerConfig(host=host, api_keys=tmp_path / "keys").is_loopback
    assert all(ServerConfig(host=host).is_loopback for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"))
    assert main(["serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data")]) == 2
    assert "needs --api-keys FILE" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--port", "70000"], "port: should be less than or equal to 65535, got 70000"),
        (["--adapter", "me"], "an adapter is NAME=FILE"),
        (["--allow-url", "example.org"], "an origin is https://HOST"),
        (["--new-key", "a"], "name it with --api-keys FILE"),
        (["--model", "nothing"], "there is no model 'nothing'"),
        (["--database", "nothing://"], "jobs are stored in SQLite or PostgreSQL"),
        (["--api-keys", "missing.txt"], "missing.txt cannot be read"),
    ],
)
def test_bad_option_is_one_sentence(tmp_path, monkeypatch, capsys, argv, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *argv]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("uniavgen: ")
    assert re.search(sentence, printed), printed
