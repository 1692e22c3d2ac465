"""The weights of Perth as the package `resemble-perth` carries them: a file that is found and read without its code."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from uniavgen.artifacts import PICKLE_ERRORS, first_line
from uniavgen.errors import CheckpointError

PACKAGE: Final = "resemble-perth"
"""MIT licence, weights included."""
_FILE: Final = "perth/perth_net/pretrained/implicit/perth_net_250000.pth.tar"
# Buffers of the package's own transforms.
_UNUSED: Final = "ap."


def find_perth() -> Path | None:
    """Returns the file of weights, None where the package is not installed."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(_FILE)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def read_perth() -> Mapping[str, Tensor]:
    """Returns the weights by name, read without running code. Raises CheckpointError where they are not there."""
    path = find_perth()
    if path is None:
        raise CheckpointError(f"the weights of the sound mark are missing; pip install '{PACKAGE}==1.0.1'")
    try:
        weights = torch.load(path, "cpu", weights_only=True)["model"]
    except (*PICKLE_ERRORS, KeyError) as error:
        raise CheckpointError(
            f"{path} holds no weights of Perth ({first_line(error)}); install {PACKAGE} again"
        ) from error
    return {name: value for name, value in weights.items() if not name.startswith(_UNUSED)}
