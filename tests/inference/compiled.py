"""What `test_speed.py` runs in an interpreter of its own, since shape checks of the tests would be compiled too.

Prints how often a block was compiled. `whole` uses torch's own compiler, on one block's video branch to be quick.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

from uniavgen.batch import CLOSED, OPEN
from uniavgen.models.kernels import compile_blocks
from uniavgen.models.transformer import UniAVGenTransformer


def model(num_layers: int) -> UniAVGenTransformer:
    transformer = UniAVGenTransformer.from_settings(replace(tiny.settings(), num_layers=num_layers)).eval()
    tiny.randomise(transformer)
    return transformer


def same(ours, expected) -> None:
    assert torch.allclose(ours.velocity.video, expected.velocity.video, atol=1e-4)
    assert torch.allclose(ours.velocity.audio, expected.velocity.audio, atol=1e-4)
    if expected.face_masks is not None:
        assert torch.allclose(ours.face_masks, expected.face_masks, atol=1e-5)


@torch.no_grad()
def graphs_without_breaks() -> None:
    compiled = 0

    def count(graph, _inputs):
        nonlocal compiled
        compiled += 1
        return graph.forward

    plain, fast = model(4), model(4)
    # Texts as in sampling: their keys and values come from outside of the compiled blocks.
    inputs = (tiny.video(), tiny.audio(), fast.encode_text(tiny.text(), cache_kv=("video", "audio")))
    fast.compile_repeated_blocks(backend=count, fullgraph=True)
    for _ in range(2):
        same(fast(*inputs), plain(*inputs))
    print("open", compiled)
    same(fast(*inputs, CLOSED, (3,)), plain(*inputs, CLOSED, (3,)))
    print("closed", compiled)
    same(fast(*inputs, OPEN, num_interacting=1), plain(*inputs, OPEN, num_interacting=1))
    print("batch", compiled)


@torch.no_grad()
def whole() -> None:
    plain, fast, inputs = model(1), model(1), (tiny.video(), None, tiny.text())
    compile_blocks(fast)
    assert torch.allclose(fast(*inputs).velocity.video, plain(*inputs).velocity.video, atol=1e-4)
    print("whole")


if __name__ == "__main__":
    {"graphs": graphs_without_breaks, "whole": whole}[sys.argv[1]]()
