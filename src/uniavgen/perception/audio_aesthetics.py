"""AudioBox-Aesthetics: quality of sound on four axes, of which two are used. [arXiv 2502.05139]

The network is the package's own class (`pip install --no-deps audiobox_aesthetics`: its dependencies would pull
torchaudio, which the class does not need). Sound is measured in parts of 10 s, weighted by their length. [its script]
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.perception.packages import require
from uniavgen.perception.sound import SPEECH_RATE_HZ

AESTHETICS_PACKAGES = {"audiobox_aesthetics": "audiobox_aesthetics"}
PART_S = 10


class AudioAestheticsModel:
    """The published network with the scales of its outputs."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        network_class = require("audiobox_aesthetics.model.aes", "AudioBox-Aesthetics", "audiobox_aesthetics")
        network_class = network_class.AesMultiOutput
        try:
            network = network_class.from_pretrained(path) if path.is_dir() else _of_checkpoint(network_class, path)
        # The package documents no errors: files that are missing, of other sizes, without a key, with another setting.
        except (OSError, RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} holds no AudioBox-Aesthetics model ({first_line(error)})") from error
        if not network.target_transform:
            raise CheckpointError(f"{path} lacks the scales of the answers (target_transform); download it again")
        self._network, self._device = network.to(device).eval(), device

    @torch.no_grad()
    def scores(self, waveform: Float32[np.ndarray, " samples"]) -> dict[str, float]:
        """Returns production quality `PQ` and content usefulness `CU` of a 16 kHz waveform, 1 to 10."""
        wav, mask = split_parts(torch.from_numpy(waveform))
        outputs = self._network({"wav": wav.to(self._device), "mask": mask.to(self._device)})
        weights = mask.float().mean(dim=(1, 2))
        scores = {}
        for axis in ("PQ", "CU"):
            scale = self._network.target_transform[axis]
            values = outputs[axis].float().cpu() * scale["std"] + scale["mean"]
            scores[axis] = float((values * weights).sum() / weights.sum())
        return scores


def split_parts(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Returns `b 1 samples` of 10 s, padded with zeros, and a mask of the real samples."""
    length = PART_S * SPEECH_RATE_HZ
    parts = waveform.split(length)
    wav = torch.stack([F.pad(part, (0, length - len(part))) for part in parts])
    mask = torch.stack([torch.arange(length) < len(part) for part in parts])
    return wav[:, None], mask[:, None]


def _of_checkpoint(network_class: Any, path: Path) -> Any:
    """Builds the published checkpoint.pt: settings, scales and weights whose names begin with "model."."""
    stored = torch.load(path, "cpu", weights_only=True)
    fields = network_class.__dataclass_fields__
    settings = {name: value for name, value in stored["model_cfg"].items() if name in fields}
    network = network_class(**{**settings, "target_transform": stored["target_transform"]})
    network.load_state_dict({name.removeprefix("model."): value for name, value in stored["state_dict"].items()})
    return network
