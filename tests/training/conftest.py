"""The data set that the tests of this folder share."""

import pytest
from tiny_run import write_features


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> str:
    return write_features(tmp_path_factory.mktemp("features"))
