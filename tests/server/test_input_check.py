"""Inputs are decoded in a process with limits of time and memory."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uniavgen.apps.server.clip_request import ClipRequest
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.input_check import InputChecker
from uniavgen.workflows.load_config import LoadConfig


def _request(speech: str = "Hello there.", **settings) -> ClipRequest:
    return ClipRequest(
        task="joint", settings={"speech": speech, **settings}, inputs={"image": "image.png"}, input_names={}
    )


def _checker(**limits: float) -> InputChecker:
    return InputChecker(LoadConfig(), ServerConfig(**limits))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A picture of eight thousand pixels a side, which takes 200 MB when it is decoded."""
    folder = tmp_path_factory.mktemp("inputs")
    Image.fromarray(np.zeros((8000, 8000, 3), np.uint8)).save(folder / "image.png", compress_level=1)
    return folder


def test_check_tells_what_the_clip_will_be(folder):
    told = _checker().check(_request(speech="So they said.", num_frames=9), folder)
    assert (told["num_frames"], told["size"], told["fps"]) == (9, "128x128", 16.0)
    (warning,) = told["warnings"]
    assert "hurried" in warning
    assert "num_frames 17, which would fit" in warning


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [({"check_memory_gb": 0.05}, "memory"), ({"check_seconds": 0.01}, "took more than 0.01 s")],
)
def test_check_ends_what_takes_too_much(folder, limits, sentence):
    with pytest.raises(RequestError, match=sentence) as refused:
        _checker(**limits).check(_request(), folder)
    assert refused.value.status == 400


def test_check_names_files_without_their_folder(tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    with pytest.raises(RequestError) as refused:
        _checker().check(_request(), tmp_path)
    assert str(refused.value).startswith("image.png is ")
