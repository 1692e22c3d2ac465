from pathlib import Path

import pytest
import torch

from .builders import save_inputs, save_pipeline


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A saved pipeline of random weights."""
    torch.set_num_threads(1)
    return save_pipeline(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Good inputs, and some that are too long or too short."""
    return save_inputs(tmp_path_factory.mktemp("inputs"))
