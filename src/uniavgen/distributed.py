"""Devices by name, chosen once, for every part of the library."""

import re

from uniavgen.errors import ConfigError

_DEVICE_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_device_name(name: str) -> None:
    """Raises ConfigError for a name that no device can have; does not look whether the device exists."""
    if not _DEVICE_NAME.fullmatch(name):
        raise ConfigError(f"there is no device '{name}'; use auto, cpu, cuda, cuda:N or mps")


def select_device(name: str) -> str:
    """Returns an existing device for `auto`, cpu, cuda, cuda:N or mps; raises ConfigError where there is none."""
    # Deferred, so that a name can be checked without loading torch.
    import torch

    check_device_name(name)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"there is no device '{name}' here: no CUDA GPU was found; use --device cpu")
    if name.startswith("cuda:") and int(name.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise ConfigError(f"there is no device '{name}' here; the last is cuda:{torch.cuda.device_count() - 1}")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("there is no device 'mps' here; use --device cpu")
    return name
