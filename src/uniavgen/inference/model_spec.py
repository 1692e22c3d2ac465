"""What requests are checked against: everything of a model that is no weight, also read before weights are loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniavgen.artifacts import read_json
from uniavgen.checkpoint.saved_model import saved_settings
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.tokenizer_file import COPY_AGAIN
from uniavgen.config import parse
from uniavgen.errors import CheckpointError
from uniavgen.inference.resize import ResizeRule, parse_resize_rule, resize_rule_for
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.config import TransformerConfig
from uniavgen.timebase import Timebase


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Rates, sizes, symbols and default sampling of a model."""

    timebase: Timebase
    num_layers: int
    """Blocks of the transformer."""
    resize_rule: ResizeRule
    """How images and videos are brought to the size of the clip, where a request gives no size."""
    sampling: SamplingConfig
    """Settings where a request overrides none."""
    symbols: SpeechSymbols

    def resize_rule_for(self, size: tuple[int, int] | None) -> ResizeRule:
        """Returns the rule for a clip of `size` (width, height), None being the model's own.

        Raises ConfigError for a size that the model cannot generate.
        """
        return self.resize_rule if size is None else resize_rule_for(self.resize_rule, *size)


def saved_model_spec(folder: Path) -> ModelSpec:
    """Reads the spec of a saved pipeline from its configs and its tokenizer of speech.

    Raises CheckpointError where one of them is missing or damaged.
    """
    index = read_config(folder / "model_index.json", "picture_config", "sampling_config")
    transformer = saved_transformer_config(folder)
    tokenizer = folder / "speech_tokenizer"
    if not tokenizer.is_dir():
        raise CheckpointError(f"{folder} has no speech_tokenizer; {COPY_AGAIN}")
    return ModelSpec(
        timebase=transformer.timebase,
        num_layers=transformer.num_layers,
        resize_rule=parse_resize_rule(index["picture_config"]),
        sampling=parse(SamplingConfig, index["sampling_config"], origin="sampling_config"),
        symbols=SpeechSymbols.from_pretrained(tokenizer),
    )


def saved_transformer_config(folder: Path) -> TransformerConfig:
    """Reads the settings of a saved pipeline's transformer. Raises CheckpointError."""
    file = folder / "transformer" / "config.json"
    return saved_settings(read_json(file, CheckpointError, COPY_AGAIN), file)


def read_config(file: Path, *keys: str) -> dict[str, Any]:
    """Reads a JSON object that has `keys`. Raises CheckpointError where it is missing, damaged or lacks one."""
    data = read_json(file, CheckpointError, COPY_AGAIN)
    absent = [key for key in keys if data.get(key) is None]
    if absent:
        raise CheckpointError(f"{file} is damaged (it has no {absent}); {COPY_AGAIN}")
    return data
