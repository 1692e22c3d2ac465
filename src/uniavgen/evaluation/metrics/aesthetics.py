"""PQ and CU: production quality and content usefulness of the sound, by AudioBox-Aesthetics. [paper 4.2]

The network is the package's own class (`pip install --no-deps audiobox_aesthetics`: its dependencies would pull
torchaudio, which the class does not need). Sound is heard in stretches of 10 s, weighted by their length. [its script]
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.evaluation.clip import SPEECH_RATE_HZ, Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, heard
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt

NETWORK = "audiobox-aesthetics"
PACKAGE = "audiobox_aesthetics"
HEARD_S = 10
COLUMNS = (
    Column(
        name="pq",
        description="production quality of the sound by AudioBox-Aesthetics, 1 to 10; clean speech has 7 to 8",
        better=Better.HIGHER,
    ),
    Column(
        name="cu",
        description="content usefulness of the sound by AudioBox-Aesthetics, 1 to 10; clean speech has 6 to 7",
        better=Better.HIGHER,
    ),
)


class AudioAesthetics:
    """Two of the network's four answers."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self.networks = {NETWORK: weights}
        self._device = device

    @torch.no_grad()
    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        wav, mask = stretches(torch.from_numpy(heard(clip)))
        found = self._network({"wav": wav.to(self._device), "mask": mask.to(self._device)})
        shares = mask.float().mean(dim=(1, 2))
        scores = {}
        for column, axis in (("pq", "PQ"), ("cu", "CU")):
            scale = self._network.target_transform[axis]
            answers = found[axis].float().cpu() * scale["std"] + scale["mean"]
            scores[column] = float((answers * shares).sum() / shares.sum())
        return Measurement(scores=scores)

    @cached_property
    def _network(self) -> Any:
        path = self.networks[NETWORK].path
        model = needed(f"{PACKAGE}.model.aes", "AudioBox-Aesthetics", PACKAGE).AesMultiOutput
        try:
            found = model.from_pretrained(path) if path.is_dir() else _of_checkpoint(model, path)
        except (OSError, RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} holds no AudioBox-Aesthetics model ({first_line(error)})") from None
        if not found.target_transform:
            raise CheckpointError(f"{path} lacks the scales of the answers (target_transform); download it again")
        return found.to(self._device).eval()


def stretches(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """`b 1 samples` of 10 s, filled up with zeros, and which samples are real."""
    length = HEARD_S * SPEECH_RATE_HZ
    parts = waveform.split(length)
    wav = torch.stack([F.pad(part, (0, length - len(part))) for part in parts])
    mask = torch.stack([torch.arange(length) < len(part) for part in parts])
    return wav[:, None], mask[:, None]


def _of_checkpoint(model: Any, path: Path) -> Any:
    """The published checkpoint.pt: settings, scales and weights whose names begin with "model."."""
    stored = torch.load(path, "cpu", weights_only=True)
    known = {name: value for name, value in stored["model_cfg"].items() if name in model.__dataclass_fields__}
    built = model(**{**known, "target_transform": stored["target_transform"]})
    built.load_state_dict({name.removeprefix("model."): value for name, value in stored["state_dict"].items()})
    return built
