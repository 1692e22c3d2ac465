from itertools import pairwise

import pytest
import torch

from uniavgen.codecs.tiles import TileBlender, tiles_covering


@pytest.mark.parametrize(
    ("height", "width", "side"), [(46, 80, 16), (46, 80, 32), (17, 16, 16), (5, 7, 16), (9, 31, 2)]
)
def test_tiles_of_frames_blend_to_the_frames(height, width, side):
    whole = torch.randn(1, 2, 3, height, width, generator=torch.Generator().manual_seed(0))
    tiles = tiles_covering(height, width, side)
    assert len({tile.cut(whole).shape for tile in tiles}) == 1
    blend = TileBlender(tuple(whole.shape))
    for tile in tiles:
        for frames in (slice(0, 1), slice(1, 3)):
            blend.add(tile, frames, tile.cut(whole[:, :, frames]))
    torch.testing.assert_close(blend.frames(slice(0, 3)), whole)


def test_tiles_overlap_by_a_quarter_of_a_side_or_more():
    spans = sorted({(tile.columns.start, tile.columns.stop) for tile in tiles_covering(46, 80, 16)})
    assert (spans[0][0], spans[-1][1]) == (0, 80)
    assert all(before[1] - after[0] >= 4 for before, after in pairwise(spans))


def test_tile_seam_is_a_slope():
    blend = TileBlender((1, 1, 1, 8, 28))
    left, right = tiles_covering(8, 28, 16)
    for tile, level in ((left, 0.0), (right, 1.0)):
        blend.add(tile, slice(0, 1), torch.full((1, 1, 1, 8, 16), level))
    row = blend.frames(slice(0, 1))[0, 0, 0, 0]
    assert row[:12].eq(0).all()
    assert row[16:].eq(1).all()
    assert row[12:16].diff().gt(0).all()
