"""Tokenises the text that the audio branch speaks: into characters with case and punctuation, not phonemes. [release]

A vocabulary is a text file with one symbol a line. The id of a symbol is its line, counted from 1; 0 is the filler,
which no text contains. A character outside the vocabulary becomes the first symbol, a blank in the vocabularies of the
release and of nano [release]; the commands and the pipeline refuse such a text before that.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace, Sequence, Strip
from tokenizers.pre_tokenizers import Split

from uniavgen.artifacts import read_text
from uniavgen.codecs.tokenizer_file import TokenizerFile
from uniavgen.errors import CheckpointError

FILLER: Final = "<filler>"
"""Longer than one character, so that no text can hold it as a symbol."""

ASCII_SYMBOLS: Final = tuple(chr(code) for code in range(0x20, 0x7F))
"""Printable ASCII, the blank first: nano's vocabulary. [ours]"""

_QUOTES: Final = {"[\u2018\u2019\u201a\u201b\u2032]": "'", "[\u201c\u201d\u201e\u201f\u2033]": '"'}


class SpeechSymbols(TokenizerFile):
    """Encodes speech as one id a character; saved and loaded like any tokenizer.

    Curly quotes become straight ones and runs of white space one blank; nothing else about the text changes.
    """

    def __init__(self, backend: Tokenizer, settings: dict[str, Any]) -> None:
        super().__init__(backend, settings)
        # A text that spells out the filler's name is eight characters, not a filler: special tokens are split.
        backend.encode_special_tokens = True

    @classmethod
    def of(cls, symbols: Iterable[str] = ASCII_SYMBOLS) -> Any:
        """Returns a tokenizer of these symbols, in order of their ids from 1; the default is nano's."""
        symbols = list(symbols)
        if not symbols or len(set(symbols)) < len(symbols) or "" in symbols or FILLER in symbols:
            raise CheckpointError("speech symbols must differ from each other, from the filler and from nothing at all")
        ids = {FILLER: 0} | {symbol: line for line, symbol in enumerate(symbols, start=1)}
        # The release looks an unknown character up as line 0 and then adds 1 to every line.
        model = Tokenizer(WordLevel(ids, unk_token=symbols[0]))
        straight = [Replace(Regex(curly), quote) for curly, quote in _QUOTES.items()]
        model.normalizer = Sequence([*straight, Replace(Regex(r"\s+"), " "), Strip()])
        model.pre_tokenizer = Split(Regex(r"."), behavior="isolated")
        model.add_special_tokens([FILLER])
        return cls(model, {"pad_token": FILLER, "unk_token": FILLER, "clean_up_tokenization_spaces": False})

    @classmethod
    def from_vocabulary(cls, path: str | Path) -> "SpeechSymbols":
        """Reads the symbols of a text file, one a line, as in the release's `vocab.txt`. Raises CheckpointError."""
        text = read_text(Path(path), CheckpointError, "give a text file with one speech symbol a line")
        return cls.of(text.removesuffix("\n").split("\n"))

    def encode(self, text: str) -> list[int]:
        """Returns the id of each character."""
        return self.backend_tokenizer.encode(text).ids

    def symbols(self) -> list[str]:
        """Returns the symbols in order of their ids from 1: the lines of the vocabulary file."""
        ids = self.get_vocab()
        return sorted((symbol for symbol in ids if symbol != FILLER), key=ids.__getitem__)

    def unknown_characters(self, text: str) -> list[str]:
        """Returns the characters of `text` that the vocabulary lacks, each once, in order."""
        vocabulary = self.get_vocab()
        return [symbol for symbol in dict.fromkeys(self._normalised(text)) if symbol not in vocabulary]

    def _normalised(self, text: str) -> str:
        """Returns the characters that are looked up, one by one."""
        return self.backend_tokenizer.normalizer.normalize_str(text)
