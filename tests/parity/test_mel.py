"""The log-mel of a real voice equals the one that the authors' code computed."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from uniavgen.codecs import mel

GOLDEN = Path(os.environ.get("UNIAVGEN_GOLDEN", Path(__file__).parents[2].parent / "shared" / "golden"))
SETS = sorted(GOLDEN.glob("*codecs_io.safetensors")) if GOLDEN.is_dir() else []


@pytest.mark.skipif(not SETS, reason="no measured numbers of the release; set UNIAVGEN_GOLDEN")
@pytest.mark.parametrize("path", SETS, ids=lambda path: path.name.removesuffix("_io.safetensors"))
def test_log_mel_is_the_releases(path: Path):
    stored = load_file(path)
    if "mel.waveform" not in stored:
        pytest.skip("this set has no mel")
    log_mel = mel.log_mel(stored["mel.waveform"][None])[0]
    # The last bins of a quiet frame are rounding of the FFT: its order on another processor moves them by 3e-5.
    torch.testing.assert_close(log_mel, stored["mel.log_mel"].T, rtol=1e-4, atol=1e-5)
