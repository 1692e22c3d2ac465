"""Reads and writes tokenizers in the files of transformers with `tokenizers`, which is imported in milliseconds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from uniavgen.artifacts import first_line, read_json, read_text
from uniavgen.errors import CheckpointError

COPY_AGAIN = "copy or download the model again"
_UNBOUNDED = int(1e30)
"""What transformers writes for a tokenizer without a longest text."""


def read_tokenizer(file: Path) -> Tokenizer:
    """Reads a `tokenizer.json`. Raises CheckpointError where it is missing or damaged."""
    text = read_text(file, CheckpointError, COPY_AGAIN)
    try:
        return Tokenizer.from_str(text)
    except Exception as error:
        # Bare: the parser in Rust raises nothing narrower for a damaged file.
        raise CheckpointError(f"{file} is no tokenizer ({first_line(error)}); {COPY_AGAIN}") from error


def read_settings(file: Path) -> dict[str, Any]:
    """Reads a `tokenizer_config.json`. Raises CheckpointError where it is missing or damaged."""
    settings = read_json(file, CheckpointError, COPY_AGAIN)
    length, pad = settings.get("model_max_length", _UNBOUNDED), settings.get("pad_token")
    if type(length) not in (int, float) or length < 1:
        raise CheckpointError(f"{file} has model_max_length {str(length)[:40]}, expected 1 or more; {COPY_AGAIN}")
    if pad is not None and not isinstance(pad["content"] if _is_added_token(pad) else pad, str):
        raise CheckpointError(f"{file} has pad_token {str(pad)[:40]}, expected a text; {COPY_AGAIN}")
    return settings


def _is_added_token(value: Any) -> bool:
    """Returns whether a special token is written with its settings, as an object."""
    return isinstance(value, dict) and "content" in value


class TokenizerFile:
    """Loads a tokenizer from `tokenizer.json` and `tokenizer_config.json`, and saves it so."""

    def __init__(self, backend: Tokenizer, settings: dict[str, Any]) -> None:
        self.backend_tokenizer = backend
        self.settings = settings

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> Any:
        """Loads a tokenizer; raises CheckpointError for a file that is missing or damaged.

        Further arguments, which diffusers hands to every component, are ignored.
        """
        folder = Path(folder)
        settings = read_settings(folder / "tokenizer_config.json")
        return cls(read_tokenizer(folder / "tokenizer.json"), settings)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Writes both files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Not the library's own `save`, which takes no name that is not Unicode.
        (folder / "tokenizer.json").write_text(self.backend_tokenizer.to_str(pretty=True), encoding="utf-8")
        text = json.dumps({"tokenizer_class": type(self).__name__, **self.settings}, indent=2, sort_keys=True)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")

    @property
    def model_max_length(self) -> int:
        """Number of tokens of the longest text."""
        return int(self.settings.get("model_max_length", _UNBOUNDED))

    def get_vocab(self) -> dict[str, int]:
        """Returns the id of every token."""
        return self.backend_tokenizer.get_vocab()

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size()


class CaptionTokenizer(TokenizerFile):
    """Encodes captions, as the pipeline does."""

    saved_as = ("transformers", "PreTrainedTokenizerFast")
    """Library and class that a saved pipeline names, whoever loads it."""

    def encode_padded(self, texts: Sequence[str], length: int) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b m"]]:
        """Returns ids of `length` tokens a text, cut or filled up, and a mask that is 0 where they are filled up."""
        pad = self.settings.get("pad_token") or "<pad>"
        pad = pad["content"] if _is_added_token(pad) else pad
        self.backend_tokenizer.enable_truncation(length)
        self.backend_tokenizer.enable_padding(
            length=length, pad_id=self.backend_tokenizer.token_to_id(pad) or 0, pad_token=pad
        )
        encoded = self.backend_tokenizer.encode_batch(list(texts))
        return torch.tensor([text.ids for text in encoded]), torch.tensor([text.attention_mask for text in encoded])
