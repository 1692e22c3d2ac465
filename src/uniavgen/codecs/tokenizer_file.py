"""Tokenizers in the files of transformers, read by the library `tokenizers` alone, which loads in milliseconds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

_UNBOUNDED = int(1e30)
"""What transformers writes for a tokenizer without a longest text."""


class TokenizerFile:
    """A tokenizer that is loaded from, and saved as, `tokenizer.json` and `tokenizer_config.json`."""

    def __init__(self, backend: Tokenizer, settings: dict[str, Any]) -> None:
        self.backend_tokenizer = backend
        self.settings = settings

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> Any:
        """Loads a tokenizer; raises OSError for a missing file and ValueError for a damaged one.

        Further arguments, which diffusers hands to every component, are ignored.
        """
        folder = Path(folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        try:
            backend = Tokenizer.from_str(text)
        except Exception as error:
            # Bare: the parser in Rust raises nothing narrower for a damaged file.
            raise ValueError(f"{folder / 'tokenizer.json'} is damaged ({error})") from error
        return cls(backend, settings)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Writes both files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend_tokenizer.save(str(folder / "tokenizer.json"))
        text = json.dumps({"tokenizer_class": type(self).__name__, **self.settings}, indent=2, sort_keys=True)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")

    @property
    def model_max_length(self) -> int:
        """Tokens of the longest text."""
        return int(self.settings.get("model_max_length", _UNBOUNDED))

    def get_vocab(self) -> dict[str, int]:
        """Returns the id of every token."""
        return self.backend_tokenizer.get_vocab()

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size()


class CaptionTokenizer(TokenizerFile):
    """The tokenizer of captions, as the pipeline uses it."""

    saved_as = ("transformers", "PreTrainedTokenizerFast")
    """Library and class that a saved pipeline names, whoever loads it."""

    def encode_padded(self, texts: Sequence[str], length: int) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b m"]]:
        """Returns ids of `length` tokens a text, cut or filled up, and a mask that is 0 where they are filled up."""
        pad = self.settings.get("pad_token") or "<pad>"
        pad = pad if isinstance(pad, str) else pad["content"]
        self.backend_tokenizer.enable_truncation(length)
        self.backend_tokenizer.enable_padding(
            length=length, pad_id=self.backend_tokenizer.token_to_id(pad) or 0, pad_token=pad
        )
        encoded = self.backend_tokenizer.encode_batch(list(texts))
        return torch.tensor([text.ids for text in encoded]), torch.tensor([text.attention_mask for text in encoded])
