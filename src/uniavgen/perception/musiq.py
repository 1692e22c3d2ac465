"""Technical image quality by MUSIQ trained on SPAQ. [arXiv 2108.05997; VBench, imaging quality]

The network is pyiqa's class, which needs torchvision: install both into an environment of their own.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn import functional as F

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.perception.packages import require

MUSIQ_PACKAGES = {"pyiqa": "pyiqa"}
LONG_SIDE_PX = 512


class Musiq:
    """Images to a quality of 0 to 100."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        musiq = require("pyiqa.archs.musiq_arch", "MUSIQ", "pyiqa").MUSIQ
        try:
            self._network = musiq(pretrained_model_path=str(path)).to(device).eval()
        except (OSError, RuntimeError, KeyError) as error:  # as torch.load, load_state_dict and its dictionary
            raise CheckpointError(f"{path} holds no weights of MUSIQ ({first_line(error)})") from error
        self._device = device

    @torch.no_grad()
    def score(self, frame: UInt8[np.ndarray, "H W 3"]) -> float:
        """Returns the quality of one frame, shrunk to a longer side of at most 512 px."""
        image = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
        scale = LONG_SIDE_PX / max(image.shape[-2:])
        if scale < 1:
            size = [max(int(side * scale), 1) for side in image.shape[-2:]]
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        return float(self._network(image.to(self._device)))
