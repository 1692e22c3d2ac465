"""Transcripts as a model is trained on them: normalised as the speech of requests, and no longer than the clip.

Times are seconds since the first frame of the clip.
"""

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np

from uniavgen.codecs.speech_normalization import check_symbols, normalize_speech
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.data.sample import Sample
from uniavgen.data.words import Word, joined_words
from uniavgen.errors import ConfigError, DataError


def normalize_transcript(sample: Sample, symbols: SpeechSymbols, verbatim: bool = False) -> Sample:
    """Returns the sample with its transcript in words and characters of the model (`normalize_speech`).

    Words keep their times; those that are spelled out share the time of what they replace. Raises DataError for
    characters that the model cannot say.
    """
    language = symbols.language_of(sample.text)
    text = normalize_speech(sample.text, symbols, verbatim, language)
    try:
        check_symbols(text, f"transcript of '{sample.key}'", symbols, language)
    except ConfigError as error:
        raise DataError(str(error)) from error
    if not text:
        raise DataError(f"the transcript of '{sample.key}' has nothing that is spoken, got {sample.text!r}")
    return sample if text == sample.text else replace(sample, text=text, words=respell_words(sample.words, text))


def cut_transcript(sample: Sample, duration_s: float) -> Sample:
    """Returns the sample with the words spoken before `duration_s`; all of them where their times are unknown.

    Raises DataError where no word is spoken before.
    """
    if all(word.end_s <= duration_s for word in sample.words):
        return sample
    words = tuple(word for word in sample.words if word.end_s <= duration_s)
    if not words:
        raise DataError(f"sample '{sample.key}' has no whole word in its first {duration_s:.2f} s; cut it elsewhere")
    return replace(sample, text=joined_words(words), words=words)


def respell_words(words: Sequence[Word], text: str) -> tuple[Word, ...]:
    """Returns the words of `text` with the times of the same words before they were respelled."""
    before, after = [word.text for word in words], text.split()
    respelled: list[Word] = []
    for _, start, stop, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        replaced, spelled = words[start:stop], after[first:last]
        if not spelled:
            continue
        if not replaced:
            # A sign between words that is spoken has no time, so nothing can be said about the others' either.
            return ()
        if len(replaced) == len(spelled):
            times = [(word.start_s, word.end_s) for word in replaced]
        else:
            times = _shared_times(spelled, replaced[0].start_s, replaced[-1].end_s)
        respelled += [Word(text=w, start_s=a, end_s=b) for w, (a, b) in zip(spelled, times, strict=True)]
    return tuple(respelled)


def _shared_times(words: Sequence[str], start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Divides a time among words by their count of letters."""
    letters = np.cumsum([0, *map(len, words)]) / sum(map(len, words))
    edges = [float(start_s + share * (end_s - start_s)) for share in letters]
    return list(pairwise(edges))
