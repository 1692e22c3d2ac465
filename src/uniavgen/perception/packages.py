"""Optional packages, imported when a network is first used."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from uniavgen.errors import CheckpointError

SEPARATE_INSTALLS = {
    "audiobox_aesthetics": "pip install --no-deps audiobox_aesthetics",
    "pyiqa": "pip install pyiqa torchvision, in an environment of their own",
}
"""Packages that the extra `eval` cannot name, since they pull torchaudio or torchvision, to their own commands."""


def require(module: str, purpose: str, package: str) -> ModuleType:
    """Imports a module of an optional package; CheckpointError that says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise CheckpointError(f"{purpose} cannot be computed ({error}): {how_to_install(package)}") from error


def is_missing(module: str) -> bool:
    """Returns whether a module is not installed; imports nothing."""
    return find_spec(module.partition(".")[0]) is None


def how_to_install(package: str) -> str:
    """Returns a shell command."""
    return SEPARATE_INSTALLS.get(package, "pip install 'uniavgen[eval]'")
