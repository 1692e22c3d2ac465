"""A model by its name: where its files are, and whether they can be those of a model. Reads no weights."""

from importlib import resources
from pathlib import Path

from uniavgen.artifacts import check_regular_file, is_hub_name, path_exists, read_json
from uniavgen.errors import CheckpointError
from uniavgen.workflows.load_config import NANO

_PIPELINE = "UniAVGenPipeline"


def find_model(name: str) -> Path | None:
    """Returns the folder of a model, or None for a name on the hub. Imports nothing heavy.

    Raises CheckpointError where there is no such model, or the folder holds something else.
    """
    folder = Path(str(resources.files("uniavgen") / "weights" / NANO)) if name == NANO else Path(name)
    if not path_exists(folder):
        if name == NANO:
            raise CheckpointError("this installation lacks the weights of nano; install the package again")
        if is_hub_name(name):
            return None
        raise CheckpointError(f"there is no model '{name[:100]}'; use nano, a folder, or a hub name such as OWNER/NAME")
    index = folder / "model_index.json"
    if not path_exists(index):
        raise _no_model(folder)
    content = read_json(index, CheckpointError, "copy or download the model again")
    pipeline_class = content.get("_class_name")
    if pipeline_class != _PIPELINE and pipeline_class != ["uniavgen", _PIPELINE]:
        raise CheckpointError(f"{name} holds a {pipeline_class}, not a {_PIPELINE}; name another model")
    return folder


def shown_name(name: str, found: Path | None) -> str:
    """Returns how a model is called in the settings of its clips: `nano`, a hub name, or the name of its folder.

    found: what `find_model` has returned for it.
    """
    return name if found is None or name == NANO else found.resolve().name


def download_model(name: str) -> Path:
    """Returns the folder of a model on the hub, downloaded where it is not in the cache yet. Raises CheckpointError."""
    from uniavgen.checkpoint.saved_model import loading_errors
    from uniavgen.inference.pipeline import UniAVGenPipeline

    with loading_errors(f"the model {name} could not be loaded", "check the name and the network"):
        return Path(UniAVGenPipeline.download(name))


def _no_model(path: Path) -> CheckpointError:
    """Returns the error of a folder or file that is no saved model, and says what it is instead."""
    from uniavgen.checkpoint.weights import check_no_adapter, read_names

    if not path.is_dir():
        check_regular_file(path, CheckpointError)
    files = [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("transformer/*.safetensors")])
    for file in files:
        if file.suffix == ".safetensors":
            check_no_adapter(read_names(file), file)
    if path.is_file():
        return CheckpointError(
            f"{path} is a file and no model folder; published weights become one by `uniavgen convert`"
        )
    if (path / "config.json").is_file() or files:
        return CheckpointError(
            f"{path} has weights but no model_index.json; name the folder of a whole model, or make one with "
            "`uniavgen convert` or `uniavgen export`"
        )
    return CheckpointError(f"{path} is no saved pipeline: it has no model_index.json; name a folder that has one")
