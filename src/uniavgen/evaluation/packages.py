"""Optional packages of the metrics, imported when a metric is first used."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from uniavgen.errors import CheckpointError

APART = {
    "audiobox_aesthetics": "pip install --no-deps audiobox_aesthetics",
    "pyiqa": "pip install pyiqa torchvision, in an environment of their own",
}
"""Packages that the extra cannot name, since they pull torchaudio or torchvision."""


def needed(module: str, what: str, package: str) -> ModuleType:
    """A module of an optional package; CheckpointError that says how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise CheckpointError(f"{what} cannot be computed ({error}): {how_to_install(package)}") from None


def lacks(module: str) -> bool:
    """Whether a module is not installed; imports nothing."""
    return find_spec(module.partition(".")[0]) is None


def how_to_install(package: str) -> str:
    """A shell command."""
    return APART.get(package, "pip install 'uniavgen[eval]'")
