from collections.abc import Iterator

import pytest

from .running import RunningServer


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    """A server without keys, which is stopped when the tests of a file have ended."""
    running = RunningServer(tmp_path_factory.mktemp("server") / "data")
    yield running
    assert running.stop() == 130
    assert "Traceback" not in running.log.read_text()
