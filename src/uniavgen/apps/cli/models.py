"""From a model's name to a pipeline on a device, checked from the outside in: name, files, then weights."""

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from uniavgen.artifacts import first_line, is_hub_name
from uniavgen.distributed import check_device_name, select_device
from uniavgen.errors import CheckpointError

if TYPE_CHECKING:
    from uniavgen.inference.offload import OffloadConfig
    from uniavgen.inference.pipeline import UniAVGenPipeline
    from uniavgen.inference.request import Request

NANO = "nano"
_PIPELINE = "UniAVGenPipeline"


def check_model(model: str, device: str) -> Path | None:
    """The folder of a model, None for a name on the hub; CheckpointError or ConfigError for what cannot be right.

    Reads no weights and imports nothing heavy.
    """
    check_device_name(device)
    folder = Path(str(resources.files("uniavgen") / "weights" / NANO)) if model == NANO else Path(model)
    if not folder.exists():
        if model == NANO:
            raise CheckpointError("this installation lacks the weights of nano; install the package again")
        if is_hub_name(model):
            return None
        raise CheckpointError(f"there is no model '{model}'; use nano, a folder, or a hub name such as OWNER/NAME")
    index = folder / "model_index.json"
    if not index.is_file():
        raise CheckpointError(f"{model} is no saved pipeline: it has no model_index.json; name a folder that has one")
    try:
        kind = json.loads(index.read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{index} is damaged; copy or download the model again") from None
    if kind != _PIPELINE and kind != ["uniavgen", _PIPELINE]:
        raise CheckpointError(f"{model} holds a {kind}, not a {_PIPELINE}; name another model")
    return folder


def check_texts(folder: Path, request: "Request") -> None:
    """ConfigError for characters that the model cannot say; needs its tokenizer only."""
    from uniavgen.codecs.speech_symbols import SpeechSymbols
    from uniavgen.inference.prepared_request import check_symbols

    if not (folder / "speech_tokenizer").is_dir():
        raise CheckpointError(f"{folder} has no speech_tokenizer; copy or download the model again")
    try:
        symbols = SpeechSymbols.from_pretrained(folder / "speech_tokenizer")
    except _loading_errors() as error:
        raise CheckpointError(f"the speech_tokenizer of {folder} is damaged ({first_line(error)})") from None
    check_symbols(request, symbols)


def downloaded(model: str) -> Path:
    """The folder of a model on the hub; CheckpointError where it is not to be had."""
    from uniavgen.inference.pipeline import UniAVGenPipeline

    try:
        return Path(UniAVGenPipeline.download(model))
    except _loading_errors() as error:
        raise CheckpointError(
            f"the model {model} could not be loaded ({first_line(error)}); check the name and the network"
        ) from None


def load(model: str, folder: Path | None, device: str, placement: "OffloadConfig | None" = None) -> "UniAVGenPipeline":
    """The pipeline in its place; CheckpointError where it is damaged, foreign or not to be had.

    placement: as it was planned; None is all of it on the device. On a GPU transformer and caption encoder work in
    bfloat16.
    """
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from uniavgen.inference.meta_model import WORKING_DTYPE
    from uniavgen.inference.offload import OffloadConfig
    from uniavgen.inference.pipeline import UniAVGenPipeline

    placement = placement or OffloadConfig(device=torch.device(select_device(device)))
    dtypes = {"transformer": WORKING_DTYPE, "text_encoder": WORKING_DTYPE, "default": torch.float32}
    options = {"dtype": dtypes} if placement.device is not None and placement.device.type == "cuda" else {}
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    source = model if folder is None else str(folder)
    try:
        if folder is not None:
            _check_weights(folder)
        pipeline = UniAVGenPipeline.from_pretrained(source, **options)
    except _loading_errors() as error:
        if isinstance(error, CheckpointError):
            raise
        mend = "check the name and the network" if folder is None else "copy or download it again"
        raise CheckpointError(f"the model {model} could not be loaded ({first_line(error)}); {mend}") from None
    _check_filled(pipeline, model)
    return pipeline.configure(offload=placement)


def _check_weights(folder: Path) -> None:
    """A truncated file is found by its header, before the other parts are read."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"the weights {file.relative_to(folder)} of {folder} are damaged ({first_line(error)}); "
                "copy or download them again"
            ) from None


def _check_filled(pipeline: "UniAVGenPipeline", model: str) -> None:
    """diffusers leaves a weight that a file lacks without values and says nothing."""
    from torch import nn

    for name, part in pipeline.components.items():
        empty = [key for key, value in part.named_parameters() if value.is_meta] if isinstance(part, nn.Module) else []
        if empty:
            raise CheckpointError(
                f"the model {model} could not be loaded (its {name} lacks {len(empty)} weights, first {empty[0]}); "
                "it is damaged or of another version"
            )


def _loading_errors() -> tuple[type[Exception], ...]:
    """What diffusers and transformers raise for files that are missing, damaged or of something else."""
    from safetensors import SafetensorError

    return (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
