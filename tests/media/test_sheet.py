import numpy as np
import pytest

from uniavgen.media.sheet import contact_sheet

from .builders import FPS, RATE_HZ, moving_bar, tone


@pytest.mark.parametrize("shape", [(64, 64), (92, 160), (160, 92)])
@pytest.mark.parametrize("masked", [False, True])
def test_contact_sheet_has_the_size_of_its_cells(shape, masked, rng):
    mask = rng.uniform(size=(21, 4, 5)) if masked else None
    sheet = contact_sheet(
        moving_bar(81, *shape), FPS, tone(81 / 16), RATE_HZ, rng.normal(size=(506, 80)), mask, title="a sheet"
    )
    height, width = (round(side * 144 / max(shape)) for side in shape)
    assert sheet.shape == (58 + (height + 24) * (1 + masked) + 96 + 24 + 128 + 24 + 24, 126 + 8 * width + 7 * 6, 3)


def test_contact_sheet_shows_short_clips_and_silence(rng):
    sheet = contact_sheet(moving_bar(5), FPS, np.zeros(100, np.float32), RATE_HZ, np.zeros((31, 80)))
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 126 + 5 * 144 + 4 * 6
