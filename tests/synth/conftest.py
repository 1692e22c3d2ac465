"""Worlds for tests: drawn small and short, and skipped where head data or offscreen OpenGL are missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from uniavgen.errors import UniAVGenError
from uniavgen.media.packing import write_opus
from uniavgen.synth.assets import cache_folder, find_heads
from uniavgen.synth.head_data import HeadData, load_head_data
from uniavgen.synth.renderer import Renderer

RATE = 24_000
PHONES = [["h", 0.2, 0.3], ["ɛ", 0.3, 0.5], ["l", 0.5, 0.6], ["O", 0.6, 0.9], [".", 0.9, 1.1]]


@pytest.fixture(scope="session")
def heads_folder() -> Path:
    try:
        return find_heads()
    except UniAVGenError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def head_data(heads_folder: Path) -> HeadData:
    return load_head_data(heads_folder, cache_folder())


@pytest.fixture(scope="session")
def offscreen() -> None:
    try:
        Renderer(32)
    except UniAVGenError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-ahead speech: forty sentences whose sound is loud exactly during their vowels."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "opus").mkdir()
    time = np.arange(int(1.3 * RATE)) / RATE
    vowels = ((time > 0.3) & (time < 0.5)) | ((time > 0.6) & (time < 0.9))
    tone = (0.5 * np.sin(2 * np.pi * 180 * time) * vowels).astype(np.float32)
    rows = []
    for number in range(40):
        name, female = f"{number:06d}", bool(number % 2)
        write_opus(folder / "opus" / f"{name}.opus", tone, RATE)
        rows.append(
            {
                "id": name,
                "text": f"Hello number {number}.",
                "voice": "af_test" if female else "am_test",
                "gender": "female" if female else "male",
                "seconds": 1.3,
                "phones": PHONES,
            }
        )
    (folder / "index.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder
