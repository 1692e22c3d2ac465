"""Splits Mandarin into the symbols of the release: pinyin with a tone digit a character, a blank in front of each.

Needs the extra `zh`: words are found by jieba, whose dictionary decides how a character with several readings is read,
and read by pypinyin with tone sandhi. [release]
"""

import re
import warnings
from functools import lru_cache
from typing import Any

from uniavgen.errors import ConfigError

# Bopomofo, radicals and ideographs, as the release has it. Japanese kana lie below and stay as they are.
_HAN = re.compile("[\u3100-\u9fff]")
_PLAIN = str.maketrans({";": ",", "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
"""What the release replaces in Chinese text."""
_JOINED = " :'\""
"""Behind these no blank is put in front of a Latin word."""


def has_han(text: str) -> bool:
    """Returns whether a text has a Chinese character."""
    return _HAN.search(text) is not None


def mandarin_symbols(text: str) -> list[str]:
    """Returns the symbols of Chinese text, in which other scripts may stand: their characters are symbols. [release]

    A Latin word or a number of two and more characters has a blank in front of it, unless there is one. Raises
    ConfigError where the packages are missing.
    """
    segmenter, lazy_pinyin, style = _packages()
    symbols: list[str] = []
    for word in segmenter.cut(text.translate(_PLAIN)):
        if word.isascii():
            if len(word) > 1 and symbols and symbols[-1] not in _JOINED:
                symbols.append(" ")
            symbols.extend(word)
            continue
        # A word of three bytes a character is read as a whole, since it tells how each is read; a mixed word is not.
        parts = [word] if len(word.encode()) == 3 * len(word) else list(word)
        for part in parts:
            readings = lazy_pinyin(part, style=style, tone_sandhi=True)
            for character, reading in zip(part, readings, strict=True):
                symbols += [" ", reading] if _HAN.match(character) else [reading]
    return symbols


@lru_cache(maxsize=1)
def _packages() -> tuple[Any, Any, Any]:
    """Returns jieba's segmenter, pypinyin's reader and the style of its readings."""
    try:
        with warnings.catch_warnings():
            # jieba imports pkg_resources and has string escapes that new versions of Python warn of.
            warnings.simplefilter("ignore")
            import jieba
            from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise ConfigError(f"Chinese needs the package '{error.name}': pip install uniavgen[zh]") from error
    segmenter = jieba.Tokenizer()
    # `initialize` would keep its dictionary in a file of the shared temporary folder, which anyone may put there.
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter, lazy_pinyin, Style.TONE3
