"""The components of a saved pipeline, each loaded by the lightest class that computes the same.

`UniAVGenPipeline.from_pretrained` loads them by the libraries' own classes; importing those takes seconds.
"""

from pathlib import Path
from typing import Any

import torch

import uniavgen
from uniavgen.codecs.tokenizer_file import CaptionTokenizer
from uniavgen.codecs.umt5 import UMT5Encoder
from uniavgen.errors import CheckpointError
from uniavgen.inference.model_spec import read_config

COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "speech_tokenizer", "vocoder")


def load_components(folder: Path, dtypes: dict[str, torch.dtype]) -> dict[str, Any]:
    """Returns the arguments of `UniAVGenPipeline` for a saved one, on the CPU, in evaluation.

    dtypes: precision by component, "default" for all others; what is stored or configured where it is empty.

    Raises CheckpointError for an entry that names no class known here, and what the libraries raise for files that are
    missing or do not fit (`workflows.model_files.loading_errors`).
    """
    index = read_config(folder / "model_index.json", *(name for name in COMPONENTS if name != "vocoder"))
    components = {
        name: _load(folder / name, index.get(name) or [None, None], dtypes.get(name, dtypes.get("default")))
        for name in COMPONENTS
    }
    configs = {name: index[name] for name in ("picture_config", "sampling_config") if name in index}
    return components | configs


def _load(folder: Path, named: Any, dtype: torch.dtype | None) -> Any:
    options = {} if dtype is None else {"dtype": dtype}
    match named:
        case [None, None]:
            return None
        case ["uniavgen", str(name)] if name in uniavgen.__all__:
            return getattr(uniavgen, name).from_pretrained(folder, **options)
        case ["diffusers", "AutoencoderKLWan"]:
            from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

            return AutoencoderKLWan.from_pretrained(folder, **options)
        case ["transformers", "UMT5EncoderModel"]:
            return UMT5Encoder.from_transformers(folder, dtype)
        case ["transformers", str()] if (folder / "tokenizer.json").is_file():
            return CaptionTokenizer.from_pretrained(folder)
        case ["transformers", str(name)]:
            import transformers

            transformers.utils.logging.set_verbosity_error()
            transformers.utils.logging.disable_progress_bar()
            kind: Any = getattr(transformers, name, None)
            if kind is not None:
                return kind.from_pretrained(folder, **options)
    raise CheckpointError(f"{folder} is said to hold a {named}, which is not known here; copy or download it again")
