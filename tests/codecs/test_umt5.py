from pathlib import Path

import pytest
import torch
from transformers import UMT5Config, UMT5EncoderModel

from uniavgen.codecs.caption import CaptionEncoder, word_tokenizer
from uniavgen.codecs.tokenizer_file import CaptionTokenizer
from uniavgen.codecs.umt5 import UMT5Encoder

CAPTIONS = ["A young woman with red hair speaks calmly.", "An old man talks with great joy.", ""]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of an encoder and a tokenizer that transformers saved."""
    tokenizer = word_tokenizer(CAPTIONS, max_tokens=13)
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=8, d_kv=3, d_ff=7, num_heads=2, num_layers=2, num_decoder_layers=0
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        UMT5EncoderModel(config).save_pretrained(tmp_path / "text_encoder")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_umt5_features_are_those_of_transformers_bit_by_bit(saved: Path, dtype: torch.dtype):
    theirs = UMT5EncoderModel.from_pretrained(saved / "text_encoder", dtype=dtype).eval()
    ours = UMT5Encoder.from_transformers(saved / "text_encoder", dtype)
    ids, mask = CaptionTokenizer.from_pretrained(saved / "tokenizer").encode_padded(CAPTIONS, 13)
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        features = ours(input_ids=ids, attention_mask=mask).last_hidden_state
    assert features.dtype == expected.dtype
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


def test_umt5_distances_beyond_the_longest_share_a_bucket(saved: Path):
    theirs = UMT5EncoderModel.from_pretrained(saved / "text_encoder").eval()
    ours = UMT5Encoder.from_transformers(saved / "text_encoder")
    ids = torch.arange(300)[None] % 50
    mask = torch.ones_like(ids)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, mask)[0], theirs(ids, mask).last_hidden_state, rtol=0, atol=0)


def test_caption_features_do_not_depend_on_whose_classes_read_them(saved: Path):
    theirs = CaptionEncoder(
        word_tokenizer(CAPTIONS, max_tokens=13), UMT5EncoderModel.from_pretrained(saved / "text_encoder").eval()
    )
    ours = CaptionEncoder(
        CaptionTokenizer.from_pretrained(saved / "tokenizer"), UMT5Encoder.from_transformers(saved / "text_encoder")
    )
    assert (ours.max_tokens, ours.width) == (theirs.max_tokens, theirs.width) == (13, 8)
    captions = [*CAPTIONS, "a zebra, \u4f60 &amp; red hair " * 5]
    torch.testing.assert_close(ours.encode(captions), theirs.encode(captions), rtol=0, atol=0)


def test_umt5_weights_that_lack_a_name_are_refused(saved: Path):
    from safetensors.torch import load_file, save_file

    file = saved / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    weights.pop("encoder.block.1.layer.1.layer_norm.weight")
    save_file(weights, file)
    with pytest.raises(RuntimeError, match="layer_norm"):
        UMT5Encoder.from_transformers(saved / "text_encoder")


def test_umt5_and_tokenizer_come_back_from_their_own_files(saved: Path, tmp_path: Path):
    ours = UMT5Encoder.from_transformers(saved / "text_encoder")
    ours.save_pretrained(tmp_path / "again")
    again = UMT5Encoder.from_pretrained(tmp_path / "again")
    theirs = UMT5EncoderModel.from_pretrained(tmp_path / "again").eval()
    tokenizer = CaptionTokenizer.from_pretrained(saved / "tokenizer")
    tokenizer.save_pretrained(tmp_path / "words")
    words = CaptionTokenizer.from_pretrained(tmp_path / "words")
    (ids, mask), (ids2, _) = tokenizer.encode_padded(CAPTIONS, 13), words.encode_padded(CAPTIONS, 13)
    assert torch.equal(ids, ids2)
    with torch.no_grad():
        torch.testing.assert_close(again(ids, mask)[0], ours(ids, mask)[0], rtol=0, atol=0)
        torch.testing.assert_close(theirs(ids, attention_mask=mask)[0], ours(ids, mask)[0], rtol=0, atol=0)
