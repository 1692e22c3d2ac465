"""Which files are sources, and which cannot be opened."""

import os
from pathlib import Path

import pytest

from uniavgen.data_engine.source import find_sources

NOBODY = 65534


@pytest.fixture
def as_nobody():
    """Gives up the rights of the administrator, who may open everything; paths have to be relative."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.fixture
def closed_films(tmp_path, monkeypatch):
    """A film, one that may not be read, and folders that may not be listed or entered."""
    for place in ("films", "films/closed", "films/listed"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.mp4").write_text(place)
    (tmp_path / "films" / "locked.mp4").write_text("locked")
    modes = {
        "": 0o755,
        "films": 0o755,
        "films/a.mp4": 0o644,
        "films/closed": 0,
        "films/listed": 0o444,
        "films/locked.mp4": 0,
    }
    for place, mode in modes.items():
        (tmp_path / place).chmod(mode)
    monkeypatch.chdir(tmp_path)
    yield Path("films")
    for place in modes:
        (tmp_path / place).chmod(0o755)


@pytest.fixture
def found(closed_films, as_nobody):
    return find_sources([closed_films])


def test_folders_and_files_that_may_not_be_opened_are_reasons_and_the_rest_is_found(found):
    sources, unreadable = found
    reasons = {str(each.path): each.reason for each in unreadable}
    assert [source.path.name for source in sources] == ["a.mp4"]
    assert reasons.keys() == {"films/closed", "films/locked.mp4", "films/listed"}
    assert all("permission denied" in reason for reason in reasons.values())


def test_names_that_are_no_text_are_sources(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.mp4")).write_text("a")
    (tmp_path / "link.mp4").symlink_to("link.mp4")
    (source,), (circle,) = find_sources([tmp_path])
    assert os.fsencode(source.path.name) == b"\xff.mp4"
    assert circle.path.name == "link.mp4"
