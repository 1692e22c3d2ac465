"""Frames of a clip: as tensors, and a cache of what was computed from the last clip's frames.

Letters: F frames, H W pixels, c channels.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

T = TypeVar("T")


class LastClipCache(Generic[T]):
    """Caches one result for the last clip's frames: several metrics, and corrupted copies of a clip, share it."""

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, T] | None = None

    def get(self, frames: UInt8[np.ndarray, "F H W 3"], compute: Callable[[], T]) -> T:
        """Returns `compute()`, or its earlier result where the last call had this same array object."""
        if self._last is None or self._last[0] is not frames:
            self._last = (frames, compute())
        return self._last[1]


def to_tensor(images: UInt8[np.ndarray, "*b h w c"]) -> Float[Tensor, "*b c h w"]:
    """Returns images with channels first and values in [-1, 1]."""
    return rearrange(torch.from_numpy(images), "... h w c -> ... c h w").float() / 127.5 - 1
