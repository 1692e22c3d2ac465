"""Tokenises the text that the audio branch speaks: English into characters with case and punctuation, not phonemes,
Mandarin into pinyin (`codecs.pinyin`). [release]

A vocabulary is a text file with one symbol a line. The id of a symbol is its line, counted from 1; 0 is the filler,
which no text contains. A symbol outside the vocabulary becomes the first symbol, a blank in the vocabularies of the
release and of nano [release]; the commands and the pipeline refuse such a text before that.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace, Strip
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import Split

from uniavgen.artifacts import read_text
from uniavgen.codecs.pinyin import has_han, mandarin_symbols
from uniavgen.codecs.tokenizer_file import TokenizerFile
from uniavgen.errors import CheckpointError, ConfigError

FILLER: Final = "<filler>"
"""Longer than one character, so that no text can hold it as a symbol."""

ASCII_SYMBOLS: Final = tuple(chr(code) for code in range(0x20, 0x7F))
"""Printable ASCII, the blank first: nano's vocabulary. [ours]"""

_A_SYLLABLE: Final = "shi4"
"""The commonest reading of Mandarin: a vocabulary that lacks it has no pinyin."""

_QUOTES: Final = {"[\u2018\u2019\u201a\u201b\u2032]": "'", "[\u201c\u201d\u201e\u201f\u2033]": '"'}


class Language(StrEnum):
    """A language whose text becomes symbols in a way of its own, by its ISO 639-1 code."""

    ENGLISH = "en"
    """And everything else that is written with the characters of a vocabulary."""
    CHINESE = "zh"
    """Mandarin, with words of other languages in it."""


AUTOMATIC: Final = "auto"
"""In place of a language: that of the text's script."""


class SpeechSymbols(TokenizerFile):
    """Encodes speech as ids of symbols; saved and loaded like any tokenizer.

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
        model.normalizer = NormalizerSequence([*straight, Replace(Regex(r"\s+"), " "), Strip()])
        model.pre_tokenizer = Split(Regex(r"."), behavior="isolated")
        model.add_special_tokens([FILLER])
        return cls(model, {"pad_token": FILLER, "unk_token": FILLER, "clean_up_tokenization_spaces": False})

    @classmethod
    def from_vocabulary(cls, path: str | Path) -> "SpeechSymbols":
        """Reads the symbols of a text file, one a line, as in the release's `vocab.txt`. Raises CheckpointError."""
        text = read_text(Path(path), CheckpointError, "give a text file with one speech symbol a line")
        return cls.of(text.removesuffix("\n").split("\n"))

    @property
    def languages(self) -> tuple[Language, ...]:
        """The languages that the vocabulary has symbols for."""
        return (Language.ENGLISH, Language.CHINESE) if _A_SYLLABLE in self.get_vocab() else (Language.ENGLISH,)

    def language_of(self, *texts: str, language: str = AUTOMATIC) -> Language:
        """Returns the one language of texts that are spoken in one clip, the reference voice's transcript included.

        language: `auto` is Chinese where a text has a Chinese character and the vocabulary has pinyin. Raises
        ConfigError for a language that the vocabulary lacks.
        """
        if language == AUTOMATIC:
            is_chinese = Language.CHINESE in self.languages and any(map(has_han, texts))
            return Language.CHINESE if is_chinese else Language.ENGLISH
        if language not in [*self.languages]:
            raise ConfigError(f"this model speaks {' and '.join(self.languages)}, got the language '{language}'")
        return Language(language)

    def split(self, text: str, language: Language = Language.ENGLISH) -> list[str]:
        """Returns the symbols of a text: its characters in English, pinyin with tone digits in Chinese. [release]"""
        return mandarin_symbols(text) if language is Language.CHINESE else list(self._normalised(text))

    def ids(self, symbols: Sequence[str]) -> list[int]:
        """Returns the id of each symbol, that of the first symbol for those outside the vocabulary."""
        vocabulary = self.get_vocab()
        return [vocabulary.get(symbol, 1) for symbol in symbols]

    def encode(self, text: str, language: Language = Language.ENGLISH) -> list[int]:
        """Returns the ids of the symbols of a text."""
        return self.ids(self.split(text, language))

    def symbols(self) -> list[str]:
        """Returns the symbols in order of their ids from 1: the lines of the vocabulary file."""
        ids = self.get_vocab()
        return sorted((symbol for symbol in ids if symbol != FILLER), key=ids.__getitem__)

    def unknown_characters(self, text: str, language: Language = Language.ENGLISH) -> list[str]:
        """Returns the characters of `text` that the vocabulary lacks, each once, in order.

        Of Chinese text only letters: punctuation outside the vocabulary is a pause, as in the release.
        """
        vocabulary = self.get_vocab()
        characters = dict.fromkeys(self._normalised(text))
        if language is Language.CHINESE:
            # One reading of a character stands for all, since every syllable has symbols of its tones.
            return [
                each
                for each in characters
                if unicodedata.category(each)[0] not in "PZ" and not {*mandarin_symbols(each)} <= vocabulary.keys()
            ]
        return [symbol for symbol in characters if symbol not in vocabulary]

    def _normalised(self, text: str) -> str:
        """Returns the characters that are looked up, one by one."""
        return self.backend_tokenizer.normalizer.normalize_str(text)
