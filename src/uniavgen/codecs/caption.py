"""Encodes the caption for the video branch: umT5 features, zero behind the end of the text. [release]

The base model has umT5-XXL; nano has a umT5 of two layers whose tokenizer has nano's vocabulary, in the same class.

Letters: b batch, m caption tokens, d caption width.
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import ftfy
import torch
from einops import rearrange
from jaxtyping import Float
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from uniavgen.codecs.tokenizer_file import CaptionTokenizer

MAX_TOKENS: Final = 512
"""Longest caption of the base model; a tokenizer may say less. [release]"""
NANO_MAX_TOKENS: Final = 48
"""[ours]"""
_PAD, _UNKNOWN, _END = "[PAD]", "[UNK]", "</s>"


class CaptionEncoder:
    """Encodes captions with a tokenizer and a umT5 encoder."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        """Takes a tokenizer and a model: a `CaptionTokenizer` and a `UMT5Encoder`, or transformers' own, which training
        uses."""
        self.tokenizer = tokenizer
        self.model = model

    @property
    def max_tokens(self) -> int:
        """Number of tokens to which every caption is padded or cut."""
        return min(self.tokenizer.model_max_length, MAX_TOKENS)

    @property
    def width(self) -> int:
        """Channels of a feature, d."""
        return self.model.config.d_model

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Float[Tensor, "b m d"]:
        """Returns features of m = `max_tokens` tokens each, zero behind a caption's end.

        An empty caption has the feature of its end token only.
        """
        texts = [clean_text(caption) for caption in captions]
        if isinstance(self.tokenizer, CaptionTokenizer):
            ids, mask = self.tokenizer.encode_padded(texts, self.max_tokens)
        else:
            inputs = self.tokenizer(
                texts, padding="max_length", max_length=self.max_tokens, truncation=True, return_tensors="pt"
            )
            ids, mask = inputs.input_ids, inputs.attention_mask
        mask = mask.to(self.model.device)
        hidden = self.model(input_ids=ids.to(self.model.device), attention_mask=mask).last_hidden_state
        return hidden * rearrange(mask, "b m -> b m 1").to(hidden)


def clean_text(text: str) -> str:
    """Returns text as Wan gives it to umT5: Unicode repaired, HTML entities resolved, runs of white space one blank."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text)))).strip()


def word_tokenizer(captions: Iterable[str], max_tokens: int = NANO_MAX_TOKENS) -> Any:
    """Returns a tokenizer whose tokens are the words of `captions`; other words are split into pieces or characters.

    Case does not count. Only a character that is no printable ASCII makes its word unknown.
    """
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.BertPreTokenizer()
    words = {word.lower() for text in captions for word, _ in splitter.pre_tokenize_str(clean_text(text))}
    letters = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()]
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    tokens = dict.fromkeys([_PAD, _END, _UNKNOWN, *pieces, *sorted(words)])
    model = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token=_UNKNOWN))
    model.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    model.pre_tokenizer = splitter
    model.post_processor = TemplateProcessing(single=f"$A {_END}", special_tokens=[(_END, model.token_to_id(_END))])
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token=_PAD, unk_token=_UNKNOWN, eos_token=_END, model_max_length=max_tokens
    )
