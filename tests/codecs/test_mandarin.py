"""Mandarin becomes pinyin with tone digits, a blank in front of each syllable."""

import pytest

from uniavgen.codecs.pinyin import mandarin_symbols
from uniavgen.codecs.speech_normalization import check_symbols, normalize_speech
from uniavgen.codecs.speech_symbols import Language, SpeechSymbols
from uniavgen.errors import ConfigError

pytest.importorskip("jieba")
pytest.importorskip("pypinyin")

SYLLABLES = ["shi4", "ni3", "ni2", "hao3", "ka3", "la1", "xing2", "hang2", "yin2", "bu2", "yao4"]
LETTERS = list(" abcdefghijklmnopqrstuvwxyzOK,.'\"。，")


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("你好。", " ni2 hao3。"),
        ("银行，行不", " yin2 hang2， xing2 bu4"),
        ("不要", " bu2 yao4"),
        ("卡拉OK是", " ka3 la1 OK shi4"),
        ("说hello和A", " shuo1 hello he2A"),
        ("她说:“好”; 是", ' ta1 shuo1:" hao3",  shi4'),
        ("は、é", "は、é"),
        ("", ""),
    ],
)
def test_mandarin_symbols_are_syllables_with_a_blank_in_front(text: str, symbols: str):
    assert "".join(mandarin_symbols(text)) == symbols


def test_language_is_that_of_the_script_where_the_vocabulary_has_pinyin():
    chinese, english = SpeechSymbols.of([*LETTERS, *SYLLABLES]), SpeechSymbols.of(LETTERS)
    assert chinese.language_of("hello") is Language.ENGLISH
    assert chinese.language_of("hello", "你好") is Language.CHINESE
    assert chinese.language_of("hello", language="zh") is Language.CHINESE
    assert english.language_of("你好") is Language.ENGLISH
    assert english.unknown_characters("你好 ok") == ["你", "好"]
    with pytest.raises(ConfigError, match="speaks en, got the language 'zh'"):
        english.language_of("你好", language="zh")


def test_chinese_symbols_become_ids_and_punctuation_outside_the_vocabulary_a_blank():
    symbols = SpeechSymbols.of([*LETTERS, *SYLLABLES])
    text = normalize_speech(" 你好；ok\u200b ", symbols, language=Language.CHINESE)
    assert text == "你好；ok"
    check_symbols(text, "speech", symbols, Language.CHINESE)
    listed = symbols.symbols()
    assert [listed[i - 1] for i in symbols.encode(text, Language.CHINESE)] == [*" ", "ni2", " ", "hao3", *"  ok"]
    with pytest.raises(ConfigError, match="'は'"):
        check_symbols("你は", "speech", symbols, Language.CHINESE)
