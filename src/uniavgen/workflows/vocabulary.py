"""The speech symbols that a model is trained with, for `prepare`, which checks transcripts, and `train`."""

from pathlib import Path

from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.errors import ConfigError


def load_speech_symbols(vocabulary: Path | None, num_symbols: int) -> SpeechSymbols:
    """Returns the symbols of a file, one a line, or printable ASCII for None.

    Raises ConfigError where the model has another number of them than `num_symbols`.
    """
    symbols = SpeechSymbols.of() if vocabulary is None else SpeechSymbols.from_vocabulary(vocabulary)
    count = len(symbols.symbols())
    if count != num_symbols:
        raise ConfigError(
            f"the model has {num_symbols} speech symbols, {vocabulary or 'printable ASCII'} has {count}; give the "
            "model's own --vocab, or a model of that many"
        )
    return symbols
