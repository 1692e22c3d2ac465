from collections.abc import Iterator

import pytest

from .postgresql import find_programs, running_postgresql
from .running import RunningServer


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a database."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with running_postgresql(programs) as url:
        yield url


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    """A server without keys, which is stopped when the tests of a file have ended."""
    running = RunningServer(tmp_path_factory.mktemp("server") / "data")
    yield running
    assert running.stop() == 130
    assert "Traceback" not in running.log.read_text()
