"""IQ: technical quality of the pictures by MUSIQ trained on SPAQ, as VBench defines it. [paper 4.2; VBench]

The network is pyiqa's class, which needs torchvision: install both into an environment of their own. Frames are shrunk
to a longer side of 512 px; the score is the mean over frames, over 100.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn import functional as F

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt

NETWORK = "musiq"
LONG_SIDE_PX = 512
COLUMNS = (
    Column(
        name="iq",
        description="imaging quality as VBench defines it (MUSIQ, SPAQ), 0 to 1; good video has 0.7 to 0.8",
        better=Better.HIGHER,
    ),
)


class ImagingQuality:
    """MUSIQ by pyiqa."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self.networks = {NETWORK: weights}
        self._device = device

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        return Measurement(scores={"iq": float(np.mean([self._rate(frame) for frame in clip.frames])) / 100})

    @torch.no_grad()
    def _rate(self, frame: UInt8[np.ndarray, "H W 3"]) -> float:
        picture = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
        scale = LONG_SIDE_PX / max(picture.shape[-2:])
        if scale < 1:
            size = [max(int(side * scale), 1) for side in picture.shape[-2:]]
            picture = F.interpolate(picture, size, mode="bilinear", align_corners=False)
        return float(self._network(picture.to(self._device)))

    @cached_property
    def _network(self) -> Any:
        path = self.networks[NETWORK].path
        musiq = needed("pyiqa.archs.musiq_arch", "MUSIQ", "pyiqa").MUSIQ
        try:
            return musiq(pretrained_model_path=str(path)).to(self._device).eval()
        except (OSError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"{path} holds no weights of MUSIQ ({first_line(error)})") from None
