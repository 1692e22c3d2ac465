"""Normalises and checks texts that are spoken, of requests and of training data alike."""

from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.spoken_english import spoken_english
from uniavgen.codecs.typography import is_latin, plain_typography
from uniavgen.errors import ConfigError


def normalize_speech(text: str, symbols: SpeechSymbols, verbatim: bool = False) -> str:
    """Returns a text with plain characters for typographic ones outside the vocabulary, and English words for figures.

    verbatim: leaves figures, signs and abbreviations as they are written.
    """
    vocabulary = symbols.get_vocab()
    text = plain_typography(" ".join(text.split()), vocabulary)
    if not verbatim and is_latin(text):
        text = plain_typography(spoken_english(text), vocabulary)
    return " ".join(text.split())


def check_symbols(text: str, name: str, symbols: SpeechSymbols) -> None:
    """Raises ConfigError for characters that a model with these symbols cannot say; `name` names the text."""
    unknown = symbols.unknown_characters(text)
    if unknown:
        shown = " ".join(repr(symbol) for symbol in unknown)
        raise ConfigError(f"the {name} has characters this model cannot say: {shown}; spell them out or leave them out")
