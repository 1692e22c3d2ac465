from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from uniavgen.codecs.caption import CaptionEncoder, clean_text, word_tokenizer
from uniavgen.codecs.speech_symbols import ASCII_SYMBOLS, SpeechSymbols
from uniavgen.errors import CheckpointError


def test_symbols_are_printable_ascii_counted_from_one():
    symbols = SpeechSymbols.of()
    assert symbols.encode(" ~") == [95]
    assert symbols.encode("a ~") == [66, 1, 95]
    assert symbols.symbols() == list(ASCII_SYMBOLS)
    assert symbols.encode("") == []


def test_text_survives_its_symbols():
    text = '"Don\'t," she said: 3 pm? (Yes!)'
    symbols = SpeechSymbols.of()
    ids = symbols.encode(text)
    assert "".join(symbols.symbols()[i - 1] for i in ids) == text


def test_quotes_and_white_space_are_made_plain_and_case_is_kept():
    symbols = SpeechSymbols.of()
    assert symbols.encode("It\u2019s \u201cOK\u201d\n now ") == symbols.encode('It\'s "OK" now')
    assert symbols.encode("Hi") != symbols.encode("hi")


def test_unknown_characters_are_named_once_and_become_the_first_symbol(tmp_path: Path):
    symbols = SpeechSymbols.of()
    symbols.save_pretrained(tmp_path)
    for tokenizer in (symbols, SpeechSymbols.from_pretrained(tmp_path)):
        assert tokenizer.unknown_characters("\u00fcber caf\u00e9 \u00e9 \u4f60") == ["\u00fc", "\u00e9", "\u4f60"]
        assert tokenizer.unknown_characters("It\u2019s  fine.") == []
        assert tokenizer.encode("a\u00e9") == [66, 1]
    assert SpeechSymbols.of("xyz").encode("ay") == [1, 2]


def test_filler_is_no_symbol_of_a_text():
    symbols = SpeechSymbols.of()
    assert len(symbols.encode("<filler>")) == len("<filler>")
    assert SpeechSymbols.of("fiz").unknown_characters("<fi>") == ["<", ">"]


def test_symbols_come_back_from_disk_and_from_a_vocabulary(tmp_path: Path):
    symbols = SpeechSymbols.of("xyz !")
    symbols.save_pretrained(tmp_path)
    again = SpeechSymbols.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text(" \nb\nc", encoding="utf-8")
    listed = SpeechSymbols.from_vocabulary(tmp_path / "vocab.txt")
    assert again.encode("zy x!") == symbols.encode("zy x!") == [3, 2, 4, 1, 5]
    assert (listed.symbols(), listed.encode("c b")) == ([" ", "b", "c"], [3, 1, 2])


def test_bad_vocabularies_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="differ"):
        SpeechSymbols.of("aa")
    with pytest.raises(CheckpointError, match="nothing at all"):
        SpeechSymbols.of("")
    with pytest.raises(CheckpointError, match="cannot be read"):
        SpeechSymbols.from_vocabulary(tmp_path / "none.txt")


CAPTIONS = ["A young woman with red hair speaks calmly.", "An old man talks with great joy."]


@pytest.fixture(scope="module")
def encoder() -> CaptionEncoder:
    tokenizer = word_tokenizer(CAPTIONS, max_tokens=13)
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=8, d_kv=3, d_ff=7, num_heads=2, num_layers=2, num_decoder_layers=0
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return CaptionEncoder(tokenizer, UMT5EncoderModel(config).eval())


def test_features_are_zero_past_the_end(encoder: CaptionEncoder):
    features = encoder.encode([CAPTIONS[0], "", "joy"])
    used = (features.abs().sum(dim=-1) > 0).sum(dim=1)
    assert features.shape == (3, 13, 8)
    assert used.tolist() == [10, 1, 2]
    assert features[1, 1:].abs().max() == 0


def test_caption_does_not_depend_on_its_neighbours(encoder: CaptionEncoder):
    torch.testing.assert_close(encoder.encode([CAPTIONS[0], "joy"])[1], encoder.encode(["joy"])[0])


def test_captions_that_are_long_are_cut(encoder: CaptionEncoder):
    assert encoder.encode(["red hair " * 20]).shape == (1, 13, 8)


def test_tokenizer_has_known_words_as_tokens_and_splits_others(tmp_path: Path, encoder: CaptionEncoder):
    tokenizer = encoder.tokenizer
    assert tokenizer.tokenize("A YOUNG woman") == ["a", "young", "woman"]
    assert tokenizer.tokenize("zebra") == ["z", "##e", "##b", "##r", "##a"]
    assert tokenizer.tokenize("\u4f60") == ["[UNK]"]
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again(CAPTIONS).input_ids == tokenizer(CAPTIONS).input_ids
    assert again.model_max_length == 13


def test_caption_is_cleaned_as_wan_does():
    assert clean_text("  a &amp;amp; b\n\tcaf\u00c3\u00a9 ") == "a & b caf\u00e9"
