"""Optional packages of the metrics, imported when a metric is built or first used."""

from importlib import import_module
from types import ModuleType

from uniavgen.errors import CheckpointError


def needed(module: str, what: str, package: str) -> ModuleType:
    """A module of an optional package; CheckpointError that says how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise CheckpointError(
            f"{what} needs {package}, which is missing or cannot be loaded ({error}): pip install 'uniavgen[eval]'"
        ) from None
