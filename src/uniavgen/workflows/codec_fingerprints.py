"""By which codecs features were made: latents of another video VAE mean nothing to a model."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from uniavgen.artifacts import check_regular_file
from uniavgen.data.features import FeatureSet
from uniavgen.errors import CheckpointError, DataError

_CODECS: Final = ("vae", "text_encoder", "tokenizer")
_HASHED_BYTES: Final = 1 << 20


def check_codecs(sets: Sequence[FeatureSet], models: Iterable[Path]) -> None:
    """Raises DataError where features with video were made by other codecs than other features, or than the model's.

    models: folders of which those with a video VAE count. Features that do not say their codecs pass.
    """
    made = {each.folder: each.settings["codecs"] for each in sets if "codecs" in each.settings and each.index.has_video}
    for folder, fingerprint in made.items():
        first = next(iter(made))
        if fingerprint != made[first]:
            raise DataError(
                f"the features in {folder} were made by another video VAE or text encoder than those in {first}; "
                "prepare both with the same --parts"
            )
    for model in models:
        if made and (model / "vae").is_dir() and made[next(iter(made))] != fingerprint_codecs(model):
            raise DataError(
                f"the features in {next(iter(made))} were made by another video VAE or text encoder than those of "
                f"{model}; prepare them again with --parts {model}, or name the model they were made for"
            )


def fingerprint_codecs(folder: Path | None) -> str:
    """Returns a SHA-256 over name, size and first MiB of each file of the codecs; whole weights take minutes."""
    digest = hashlib.sha256()
    folders = [] if folder is None else [folder / name for name in _CODECS]
    files = sorted(file for codec in folders for file in codec.rglob("*.*") if not file.is_dir())
    for file in files:
        check_regular_file(file, CheckpointError)
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as content:
            digest.update(content.read(_HASHED_BYTES))
    return digest.hexdigest()
