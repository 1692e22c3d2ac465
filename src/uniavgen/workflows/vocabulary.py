"""The speech symbols that a model is trained with, for `prepare`, which checks transcripts, and `train`."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.errors import ConfigError


def load_speech_symbols(vocabulary: Path | None, num_symbols: int, recorded: Sequence[str] = ()) -> SpeechSymbols:
    """Returns the symbols of a file, one a line; those that a run has recorded for None, or printable ASCII.

    Raises ConfigError where they are not `num_symbols`, as many as the model has, or others than `recorded`.
    """
    if vocabulary is None:
        symbols = SpeechSymbols.of(recorded) if recorded else SpeechSymbols.of()
    else:
        symbols = SpeechSymbols.from_vocabulary(vocabulary)
    found, name = symbols.symbols(), vocabulary or ("the run" if recorded else "printable ASCII")
    if len(found) != num_symbols:
        raise ConfigError(
            f"the model has {num_symbols} speech symbols, {name} has {len(found)}; give the model's own --vocab, or a "
            "model of that many"
        )
    if recorded:
        pairs = enumerate(zip_longest(found, recorded), start=1)
        changed = next(((line, now, before) for line, (now, before) in pairs if now != before), None)
        if changed is not None:
            line, now, before = changed
            raise ConfigError(
                f"{name} has the speech symbol {now!r} in line {line}, the run was trained with {before!r}; leave "
                "--vocab out, or give the file that the run began with"
            )
    return symbols
