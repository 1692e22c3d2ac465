"""A model by its name: where its files are, and whether they can be those of a model. Reads no weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from uniavgen.artifacts import first_line, is_hub_name
from uniavgen.errors import CheckpointError
from uniavgen.workflows.load_config import NANO

_PIPELINE = "UniAVGenPipeline"


def find_model(name: str) -> Path | None:
    """Returns the folder of a model, or None for a name on the hub. Imports nothing heavy.

    Raises CheckpointError where there is no such model, or the folder holds something else.
    """
    folder = Path(str(resources.files("uniavgen") / "weights" / NANO)) if name == NANO else Path(name)
    if not _exists(folder):
        if name == NANO:
            raise CheckpointError("this installation lacks the weights of nano; install the package again")
        if is_hub_name(name):
            return None
        raise CheckpointError(f"there is no model '{name}'; use nano, a folder, or a hub name such as OWNER/NAME")
    index = folder / "model_index.json"
    if not index.is_file():
        raise CheckpointError(f"{name} is no saved pipeline: it has no model_index.json; name a folder that has one")
    content = _json_object(index, f"{index} is damaged; copy or download the model again")
    pipeline_class = content.get("_class_name")
    if pipeline_class != _PIPELINE and pipeline_class != ["uniavgen", _PIPELINE]:
        raise CheckpointError(f"{name} holds a {pipeline_class}, not a {_PIPELINE}; name another model")
    return folder


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # A name that is too long, or a loop of links.
        return False


def download_model(name: str) -> Path:
    """Returns the folder of a model on the hub, downloaded where it is not in the cache yet. Raises CheckpointError."""
    from uniavgen.inference.pipeline import UniAVGenPipeline

    with loading_errors(f"the model {name} could not be loaded", "check the name and the network"):
        return Path(UniAVGenPipeline.download(name))


def check_files(folder: Path) -> None:
    """Raises CheckpointError for files that cannot be loaded: configs that are no JSON objects, truncated weights.

    A truncated file of weights is found by its header, before any part is read.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.rglob("*.json")):
        name = file.relative_to(folder)
        _json_object(file, f"the model {folder} could not be loaded ({name} is damaged); copy or download it again")
    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"the weights {file.relative_to(folder)} of {folder} are damaged ({first_line(error)}); "
                "copy or download them again"
            ) from error


@contextmanager
def loading_errors(failure: str, advice: str) -> Iterator[None]:
    """Raises CheckpointError for what diffusers and transformers raise where files are missing or do not fit.

    OSError: files or network; ValueError: sizes of weights, components, JSON; RuntimeError: sizes of weights;
    StrictDataclassError: values of a config. Everything else is a defect of this package and passes through.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise CheckpointError(f"{failure} ({first_line(error)}); {advice}") from error


def _json_object(file: Path, failure: str) -> dict:
    """Returns the content of a JSON file that holds an object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(failure) from error
    if not isinstance(content, dict):
        raise CheckpointError(failure)
    return content
