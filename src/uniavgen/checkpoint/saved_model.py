"""What is checked of a saved model, part by part: files before anything is built, and weights once they are loaded.

Libraries build whatever a config says, for minutes if it says a billion layers, and only warn of weights that are
missing or left over; a model that passes these checks is what its files say.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from diffusers import AutoencoderKLWan
from torch import nn

from uniavgen.artifacts import check_regular_file, first_line, path_exists, read_json
from uniavgen.checkpoint.weights import INDEX_ENDING, check_finite, check_no_adapter, read_names, read_weights
from uniavgen.codecs.tokenizer_file import COPY_AGAIN, read_settings, read_tokenizer
from uniavgen.codecs.vocoder import vocoder_class
from uniavgen.config import parse
from uniavgen.errors import CheckpointError
from uniavgen.models.config import TransformerConfig

Component = TypeVar("Component", bound=nn.Module)
_USUAL_TOKENIZERS: Final = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Names of one class, of which transformers need not be asked: importing it takes longer than loading nano."""
_COMPONENTS: Final[Mapping[str, tuple[list[str | None], ...]]] = {
    "transformer": (["uniavgen", "UniAVGenTransformer"],),
    "vae": (["diffusers", "AutoencoderKLWan"],),
    "text_encoder": (["transformers", "UMT5EncoderModel"],),
    "speech_tokenizer": (["uniavgen", "SpeechSymbols"],),
    "vocoder": (
        [None, None],
        ["uniavgen", "NanoVocoder"],
        ["uniavgen", "GriffinLimVocoder"],
        ["transformers", "Qwen2_5OmniToken2WavBigVGANModel"],
    ),
}
"""Library and class of every component whose class is fixed; any class of transformers may be the tokenizer."""
# Numbers of configs that are sizes, rates or counts, in any of the classes above.
_SIZE: Final = re.compile(
    r"num_(heads|mel|fft|iterations)|d_(ff|kv|model)|(vocab|patch)_size|relative_attention_\w+|\w*(width|hidden|hop|dim)"
    r"|(in|out)_channels|scale_factor_\w+|dim_mult|upsample_\w+|resblock_\w+"
)
_DEPTH: Final = re.compile("num_layers|num_res_blocks")
_MAX_SIZE: Final = 10**7


def check_files(folder: Path) -> None:
    """Checks the files of a saved model, or of codecs: all can be read, sizes can be, weights are not truncated.

    Reads configs and headers only. Raises CheckpointError.
    """
    index = folder / "model_index.json"
    if path_exists(index):
        content = read_json(index, CheckpointError, COPY_AGAIN)
        _check_keys(index, content)
        check_components(index, content)
    for name in (*_COMPONENTS, "tokenizer"):
        check_component(folder / name, name)


def check_component(folder: Path, name: str) -> None:
    """Checks the files of one component, wherever its folder lies; see `check_files`."""
    files = [path for path in (folder, *sorted(folder.rglob("*"))) if path_exists(path) and not path.is_dir()]
    for file in files:
        check_regular_file(file, CheckpointError)
    configs = {file: read_json(file, CheckpointError, COPY_AGAIN) for file in files if file.suffix == ".json"}
    weights = [key for file in files if file.suffix == ".safetensors" for key in read_names(file)]
    check_no_adapter(weights, folder)
    for file, config in configs.items():
        if file.name.endswith(INDEX_ENDING):
            read_weights(file)
        if file.name == "tokenizer.json":
            read_tokenizer(file)
        if file.name == "tokenizer_config.json":
            read_settings(file)
        if file == folder / "config.json":
            _check_keys(file, config)
            _check_sizes(file, config, len(weights))
            if name in ("vae", "vocoder"):
                _check_types(file, config, AutoencoderKLWan if name == "vae" else vocoder_class(config))
            if name == "transformer":
                saved_settings(config, file)


def saved_settings(config: Mapping[str, Any], file: Path) -> TransformerConfig:
    """Parses the `config.json` of a transformer. Raises CheckpointError and ConfigError."""
    parts = {name: name if name == "num_layers" else f"{name}_config" for name in TransformerConfig.__annotations__}
    absent = [key for key in parts.values() if config.get(key) is None]
    if absent:
        raise CheckpointError(f"{file} is damaged (it has no {absent}); {COPY_AGAIN}")
    # A text would name a preset.
    texts = [key for key in parts.values() if isinstance(config[key], str)]
    if texts:
        raise CheckpointError(f"{file} has {texts[0]} {config[texts[0]][:40]!r}, expected no text; {COPY_AGAIN}")
    return parse(TransformerConfig, {name: config[key] for name, key in parts.items()}, origin=str(file))


def check_components(index: Path, content: Mapping[str, Any]) -> None:
    """Raises CheckpointError where `model_index.json` names components of other classes than a pipeline's."""
    for name, classes in _COMPONENTS.items():
        named = content.get(name, classes[0] if name == "vocoder" else None)
        if named not in classes:
            expected = " or ".join(str(cls[1]) for cls in classes)
            raise CheckpointError(f"{index} names {named} as its {name}, expected {expected}; {COPY_AGAIN}")
    tokenizer = content.get("tokenizer")
    if not (isinstance(tokenizer, list) and len(tokenizer) == 2 and _is_tokenizer(*tokenizer)):
        raise CheckpointError(f"{index} names {tokenizer} as its tokenizer, expected one of transformers; {COPY_AGAIN}")


def _is_tokenizer(library: Any, name: Any) -> bool:
    """Returns whether a component's library and class are a tokenizer of transformers."""
    if library != "transformers" or not isinstance(name, str):
        return False
    if name in _USUAL_TOKENIZERS:
        return True
    import transformers

    cls = getattr(transformers, name, None)
    return isinstance(cls, type) and issubclass(cls, transformers.PreTrainedTokenizerBase)


def check_loaded(module: nn.Module, folder: Path) -> None:
    """Checks a loaded component against its files: no weight is missing or left over, and all are numbers.

    Raises CheckpointError. Reads every value once.
    """
    stored = {name for file in folder.glob("*.safetensors") for name in read_names(file)}
    state = module.state_dict(keep_vars=True)
    # Tied weights are stored under one of their names.
    shared = {id(state[name]) for name in stored & state.keys()}
    missing = [name for name, value in state.items() if name not in stored and id(value) not in shared]
    unknown = sorted(stored - state.keys())
    if stored and (missing or unknown):
        raise CheckpointError(
            f"the weights in {folder} do not fit their config.json: {len(missing)} are missing and {len(unknown)} "
            f"unknown, first {[*missing, *unknown][0]}; {COPY_AGAIN}"
        )
    check_finite(((name, value.detach()) for name, value in state.items()), folder)


@contextmanager
def loading_errors(failure: str, advice: str) -> Iterator[None]:
    """Raises CheckpointError for what diffusers and transformers raise where files are missing or do not fit.

    OSError: files or network; ValueError: sizes of weights, components, JSON; RuntimeError: sizes of weights;
    StrictDataclassError: values of a config of transformers. Everything else is a defect of this package.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise CheckpointError(f"{failure} ({first_line(error)}); {advice}") from error


def load_component(folder: Path, load: Callable[[Path], Component]) -> Component:
    """Loads a component, whose files are checked already, from its folder by `load`, and checks what was loaded.

    Raises CheckpointError.
    """
    with loading_errors(f"{folder} cannot be loaded", COPY_AGAIN):
        component = load(folder)
    check_loaded(component, folder)
    return component


def _check_keys(file: Path, config: Mapping[str, Any]) -> None:
    """Raises CheckpointError for settings that would hide a method: libraries make attributes of all of them."""
    hiding = sorted(key for key in config if key in dir(dict) or "__" in key)
    if hiding:
        raise CheckpointError(f"{file} has a setting called {hiding[0]}, which no model has; {COPY_AGAIN}")


def _check_sizes(file: Path, config: Mapping[str, Any], num_weights: int) -> None:
    for key, value in config.items():
        # A layer has at least one weight.
        most = num_weights if _DEPTH.fullmatch(key) and num_weights else _MAX_SIZE
        if (value is None and key == "decoder_base_dim") or not (_DEPTH.fullmatch(key) or _SIZE.fullmatch(key)):
            continue
        if not _flat(value) or not all(type(number) is int and 0 < number <= most for number in _flat(value)):
            raise CheckpointError(f"{file} has {key} {str(value)[:40]}, expected 1 to {most}; {COPY_AGAIN}")
    latents = [config[key] for key in ("latents_mean", "latents_std") if key in config]
    for values in latents:
        if len(_flat(values)) != config.get("z_dim") or not all(type(number) in (int, float) for number in values):
            raise CheckpointError(f"{file} has latents_mean or latents_std that are not z_dim numbers; {COPY_AGAIN}")
    if "latents_std" in config and min(config["latents_std"]) <= 0:
        raise CheckpointError(f"{file} has a latents_std that is not above 0; {COPY_AGAIN}")


def _flat(value: Any) -> list[Any]:
    return [number for item in value for number in _flat(item)] if isinstance(value, list) else [value]


def _check_types(file: Path, config: Mapping[str, Any], cls: type) -> None:
    """Raises CheckpointError where a value has another type than the default of the class, which does not look."""
    for name, parameter in inspect.signature(cls).parameters.items():
        default = parameter.default
        if name not in config or default is inspect.Parameter.empty or default is None:
            continue
        types = (
            (int, float) if type(default) is float else (list, tuple) if isinstance(default, tuple) else type(default)
        )
        if not isinstance(config[name], types) or (isinstance(config[name], bool) and not isinstance(default, bool)):
            raise CheckpointError(
                f"{file} has {name} {str(config[name])[:40]}, expected a value like {str(default)[:40]}; {COPY_AGAIN}"
            )
