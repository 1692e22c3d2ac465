"""Mandarin becomes the symbols and ids of the release."""

import json

import pytest
from golden import folder

from uniavgen.codecs.speech_normalization import normalize_speech
from uniavgen.codecs.speech_symbols import Language, SpeechSymbols

pytest.importorskip("jieba")
pytest.importorskip("pypinyin")

ROWS, VOCABULARY = folder() / "speech_zh.json", folder() / "release_vocab.txt"


@pytest.mark.skipif(not (ROWS.is_file() and VOCABULARY.is_file()), reason="no rows of the release; set UNIAVGEN_GOLDEN")
def test_mandarin_is_the_releases():
    symbols = SpeechSymbols.from_vocabulary(VOCABULARY)
    for row in json.loads(ROWS.read_text(encoding="utf-8"))["rows"]:
        assert symbols.split(row["text"], Language.CHINESE) == row["symbols"]
        assert symbols.encode(row["text"], Language.CHINESE) == row["ids"]
        normalized = normalize_speech(row["text"], symbols, language=Language.CHINESE)
        assert symbols.encode(normalized, Language.CHINESE) == row["ids"]
