"""Normalises and checks texts that are spoken, of requests and of training data alike."""

from uniavgen.codecs.speech_symbols import Language, SpeechSymbols
from uniavgen.codecs.spoken_english import spoken_english
from uniavgen.codecs.typography import is_latin, plain_typography
from uniavgen.errors import ConfigError


def normalize_speech(
    text: str, symbols: SpeechSymbols, verbatim: bool = False, language: Language = Language.ENGLISH
) -> str:
    """Returns a text with plain characters for typographic ones outside the vocabulary, and English words for figures.

    Chinese keeps its punctuation and its figures. [release]

    verbatim: leaves figures, signs and abbreviations as they are written.
    """
    vocabulary, is_chinese = symbols.get_vocab(), language is Language.CHINESE
    text = plain_typography(" ".join(text.split()), vocabulary, keep_punctuation=is_chinese)
    if not verbatim and not is_chinese and is_latin(text):
        text = plain_typography(spoken_english(text), vocabulary)
    return " ".join(text.split())


def check_symbols(text: str, name: str, symbols: SpeechSymbols, language: Language = Language.ENGLISH) -> None:
    """Raises ConfigError for characters that a model with these symbols cannot say; `name` names the text."""
    unknown = symbols.unknown_characters(text, language)
    if unknown:
        shown = " ".join(repr(symbol) for symbol in unknown)
        raise ConfigError(f"the {name} has characters this model cannot say: {shown}; spell them out or leave them out")
