"""Sound in blocks and stretches: the same samples as when a file is read at once."""

from fractions import Fraction

import numpy as np
import pytest

from uniavgen.media.audio import read_audio, write_wav
from uniavgen.media.audio_stream import cut_audio, stream_audio
from uniavgen.media.mux import write_clip
from uniavgen.media.reader import open_media

RATE_HZ = 24_000


@pytest.fixture(params=["sound.wav", "film.mp4"])
def path(request, tmp_path):
    waveform = np.random.default_rng(0).normal(0, 0.1, 3 * RATE_HZ + 77).astype(np.float32)
    if request.param.endswith("wav"):
        write_wav(tmp_path / request.param, waveform, RATE_HZ)
    else:
        frames = np.zeros((75, 32, 32, 3), np.uint8)
        write_clip(tmp_path / request.param, frames, Fraction(25), waveform, RATE_HZ, {})
    return tmp_path / request.param


@pytest.mark.parametrize("rate_hz", [16_000, RATE_HZ])
@pytest.mark.parametrize("block_s", [0.37, 1.0, 60.0])
def test_blocks_of_sound_joined_are_the_whole(path, rate_hz, block_s):
    with open_media(path) as reader:
        blocks = list(stream_audio(reader, rate_hz, block_s))
    assert all(block.shape == (1, round(block_s * rate_hz)) for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1)[0], read_audio(path, rate_hz))


def test_stretches_of_sound_are_parts_of_the_whole_with_zeros_behind_it(path):
    whole = read_audio(path, 16_000)
    stretches = [(0.25, 0.5), (0.4, 1.9), (2.5, 4.0), (5.0, 6.0)]
    with open_media(path) as reader:
        parts = list(cut_audio(reader, 16_000, stretches))
    filled = np.pad(whole, (0, 6 * 16_000 - len(whole)))
    for (start_s, end_s), part in zip(stretches, parts, strict=True):
        np.testing.assert_array_equal(part, filled[round(start_s * 16_000) : round(end_s * 16_000)])
