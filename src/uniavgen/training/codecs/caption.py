"""Training of the small caption encoder: from its features, the facts of a caption and all of its words are predicted.

L = L_facts + word_weight L_words, both cross entropies. Each fact has a query that attends over the features, as the
video branch does. Some words are masked; every word is predicted from the feature at its own position. [ours]

Letters: b batch, m caption tokens, d width, facts.
"""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Le, MinLen
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from uniavgen.artifacts import parse_json
from uniavgen.codecs.caption import NANO_MAX_TOKENS, clean_text, word_tokenizer
from uniavgen.config import Config, Factor, LayerCount, NonNegative, PositiveInt, Width
from uniavgen.data.shards import ShardSet
from uniavgen.errors import ConfigError, DataError
from uniavgen.synth.appearance import sample_style
from uniavgen.synth.captions import build_caption, person_words
from uniavgen.synth.identity import ANCESTRIES, GENDERS, Identity
from uniavgen.synth.moods import MOODS, STRENGTHS
from uniavgen.synth.scene import PLACES
from uniavgen.training.codecs.run import BatchSize, CodecLoopConfig
from uniavgen.training.objective import Objective
from uniavgen.training.randomness import default_generator, step_rng

IGNORED_CLASS = -100
"""Class of a fact that a sample lacks; carries no loss."""
_REMEDY = "make the sample again"


@dataclass(frozen=True, kw_only=True)
class CaptionEncoderConfig(Config):
    """Size of a small umT5 encoder [ours]."""

    width: Width = 128
    hidden: Width = 256
    num_heads: Width = 4
    num_layers: LayerCount = 2
    max_tokens: Annotated[PositiveInt, Le(512)] = NANO_MAX_TOKENS

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ConfigError(f"width is a multiple of num_heads, got {self.width} and {self.num_heads}")

    def build(self, vocabulary: int) -> UMT5EncoderModel:
        """Returns a new encoder with random weights."""
        config = UMT5Config(
            vocab_size=vocabulary,
            d_model=self.width,
            d_kv=self.width // self.num_heads,
            d_ff=self.hidden,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            num_decoder_layers=0,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            is_encoder_decoder=False,
        )
        return UMT5EncoderModel(config)


@dataclass(frozen=True, kw_only=True)
class CaptionTrainConfig(Config):
    """A caption encoder and how it is trained."""

    model: CaptionEncoderConfig = field(default_factory=CaptionEncoderConfig)
    loop: CodecLoopConfig
    batch_size: BatchSize = 32
    num_captions: Annotated[PositiveInt, Le(10**6)] = 20_000
    """Captions of the synthetic world, where no data is given."""
    facts: Annotated[tuple[str, ...], MinLen(1)]
    """Keys of the samples' json, or of `CaptionExample.facts`, that are predicted."""
    bounds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By the name of a numerical fact: the bounds between its classes."""
    word_drop: Factor = 0.15
    """Share of tokens that are masked."""
    word_weight: NonNegative = 1.0

    def __post_init__(self) -> None:
        for name, cuts in self.bounds.items():
            if sorted(cuts) != list(cuts):
                raise ConfigError(f"bounds of '{name}' rise from class to class, got {cuts}")


@dataclass(frozen=True, kw_only=True)
class CaptionExample:
    """A caption and the facts that it states."""

    caption: str
    facts: Mapping[str, str]


class FactClassifier(nn.Module):
    """The encoder, and for each fact an attention query over its features and a classifier."""

    def __init__(self, encoder: UMT5EncoderModel, num_values: Sequence[int]) -> None:
        super().__init__()
        width = encoder.config.d_model
        self.encoder = encoder
        self.queries = nn.Parameter(torch.randn(len(num_values), width) / width**0.5)
        self.classifiers = nn.ModuleList(nn.Linear(width, count) for count in num_values)

    def forward(
        self, ids: Int[Tensor, "b m"], mask: Int[Tensor, "b m"]
    ) -> tuple[list[Float[Tensor, "b values"]], Float[Tensor, "b m words"]]:
        """Returns logits of the values of each fact, and of the word at each position."""
        features = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        scores = einsum(self.queries, features, "facts d, b m d -> b facts m")
        scores = scores.masked_fill(rearrange(mask, "b m -> b 1 m") == 0, float("-inf"))
        attended = einsum(scores.softmax(dim=-1), features, "b facts m, b m d -> b facts d")
        facts = [classifier(attended[:, i]) for i, classifier in enumerate(self.classifiers)]
        # Words are predicted with the embeddings that they are read with.
        embeddings = self.encoder.get_input_embeddings().weight
        return facts, einsum(features, embeddings, "b m d, words d -> b m words") / features.shape[-1] ** 0.5


@dataclass(frozen=True, kw_only=True)
class CaptionBatch:
    """Captions with some tokens masked, and what is predicted; IGNORED_CLASS where there is nothing to predict."""

    ids: Int[Tensor, "b m"]
    mask: Int[Tensor, "b m"]
    words: Int[Tensor, "b m"]
    facts: Int[Tensor, "b facts"]
    known_facts: tuple[int, ...]
    """Columns of `facts` in which at least one caption has a class."""


class CaptionObjective(Objective[CaptionBatch]):
    """Prediction of the facts and words of captions."""

    model: FactClassifier

    def __init__(self, config: CaptionTrainConfig, examples: Sequence[CaptionExample], device: torch.device) -> None:
        self.config = config
        self.device = device
        self.values = {fact: _values(examples, fact) for fact in config.facts}
        self.tokenizer: PreTrainedTokenizerFast = word_tokenizer(
            (example.caption for example in examples), config.model.max_tokens
        )
        self.ids, self.mask = self._tokens([example.caption for example in examples])
        self.classes = self.classes_of(examples)
        with default_generator(torch.Generator().manual_seed(config.loop.seed)):
            encoder = config.model.build(len(self.tokenizer))
            self.model = FactClassifier(encoder, [len(values) for values in self.values.values()]).to(device)

    @property
    def encoder(self) -> UMT5EncoderModel:
        return self.model.encoder

    def batch(self, step: int) -> CaptionBatch:
        rng = step_rng(self.config.loop.seed, step)
        rows = torch.from_numpy(rng.integers(len(self.ids), size=self.config.batch_size))
        mask = self.mask[rows]
        longest = int(mask.sum(dim=1).max())
        ids, mask = self.ids[rows, :longest], mask[:, :longest]
        dropped = torch.from_numpy(rng.random(ids.shape) < self.config.word_drop)
        facts = self.classes[rows]
        return CaptionBatch(
            ids=torch.where(dropped & (mask == 1), self.tokenizer.unk_token_id, ids).to(self.device),
            mask=mask.to(self.device),
            words=torch.where(mask == 1, ids, IGNORED_CLASS).to(self.device),
            facts=facts.to(self.device),
            known_facts=tuple((facts != IGNORED_CLASS).any(dim=0).nonzero()[:, 0].tolist()),
        )

    def losses(self, batch: CaptionBatch, step: int) -> dict[str, Tensor]:
        del step
        fact_logits, word_logits = self.model(batch.ids, batch.mask)
        word_loss = F.cross_entropy(
            rearrange(word_logits, "b m words -> b words m"), batch.words, ignore_index=IGNORED_CLASS
        )
        # The mean over a fact that no caption of the batch states would be 0 / 0.
        fact_losses = [
            F.cross_entropy(fact_logits[i], batch.facts[:, i], ignore_index=IGNORED_CLASS) for i in batch.known_facts
        ]
        fact_loss = torch.stack(fact_losses).mean() if fact_losses else word_loss.new_zeros(())
        return {"total": fact_loss + self.config.word_weight * word_loss, "facts": fact_loss, "words": word_loss}

    def classes_of(self, examples: Sequence[CaptionExample]) -> Int[Tensor, "b facts"]:
        """Returns the class of each fact of each example; IGNORED_CLASS for a value that the training data lacks."""
        classes = {fact: {value: i for i, value in enumerate(values)} for fact, values in self.values.items()}
        rows = [
            [classes[fact].get(example.facts.get(fact, ""), IGNORED_CLASS) for fact in classes] for example in examples
        ]
        return torch.tensor(rows)

    def _tokens(self, captions: Sequence[str]) -> tuple[Int[Tensor, "b m"], Int[Tensor, "b m"]]:
        inputs = self.tokenizer(
            [clean_text(caption) for caption in captions],
            padding="max_length",
            max_length=self.config.model.max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        return inputs.input_ids, inputs.attention_mask


def read_caption_examples(folder: Path, bounds: Mapping[str, Sequence[float]]) -> list[CaptionExample]:
    """Returns captions and facts of the samples of a folder of shards; samples without a caption are left out.

    A fact is a text, or a number that `bounds` turns into the number of its class. Raises DataError where a sample is
    damaged or holds something else, and where no sample has a caption.
    """
    shards = ShardSet(folder)
    with_json = [i for i in range(len(shards)) if "json" in shards.parts(i)]
    read = (_example(shards.read(i, "json"), f"'{shards.keys[i]}.json' of {folder}", bounds) for i in with_json)
    examples = [example for example in read if example is not None]
    if not examples:
        raise DataError(f"no sample of {folder} has a caption; give a folder that `uniavgen synth` wrote")
    return examples


def _example(content: bytes, origin: str, bounds: Mapping[str, Sequence[float]]) -> CaptionExample | None:
    """Returns the caption and the facts of a sample's json; None where it has no caption."""
    values = parse_json(content, origin, remedy=_REMEDY)
    caption = values.get("caption")
    if caption is None or caption == "":
        return None
    if not isinstance(caption, str) or any("\ud800" <= letter <= "\udfff" for letter in caption):
        raise DataError(f"{origin} has {str(caption)[:60]!a} as its caption, expected a text; {_REMEDY}")
    facts = {name: value for name, value in values.items() if isinstance(value, str)}
    for name, cuts in bounds.items():
        number = values.get(name)
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise DataError(f"{origin} has {str(number)[:60]!a} as its {name}, expected a number; {_REMEDY}")
        facts[name] = str(bisect(cuts, number))
    return CaptionExample(caption=caption, facts=facts)


def synthetic_caption_examples(number: int, seed: int) -> list[CaptionExample]:
    """Returns captions of the synthetic world and the facts that each of them states; no image is rendered."""
    return [_synthetic_example(np.random.default_rng((seed, i))) for i in range(number)]


def _synthetic_example(rng: np.random.Generator) -> CaptionExample:
    ancestry = rng.dirichlet(np.full(len(ANCESTRIES), 0.5))
    gender, age = str(rng.choice(GENDERS)), float(rng.uniform(8, 82))
    identity = Identity(gender=gender, age=age, ancestry=ancestry, weights=np.zeros(0))
    style, place = sample_style(identity, rng), str(rng.choice(PLACES))
    mood, strength = MOODS[rng.integers(len(MOODS))], float(rng.choice(STRENGTHS))
    text = build_caption(identity, style, mood, strength, place, rng)
    facts = {"gender": gender, "mood": mood.name, "age": person_words(identity)}
    facts |= {"glasses": str("glasses" in text), "beard": str("beard" in text)}
    if style.hair_colour in text:
        facts |= {"hair_colour": style.hair_colour, "hair_style": style.hair_style}
    if place in text:
        facts["place"] = place
    return CaptionExample(caption=text, facts=facts)


def _values(examples: Sequence[CaptionExample], fact: str) -> list[str]:
    values = sorted({example.facts[fact] for example in examples if fact in example.facts})
    if len(values) < 2:
        raise DataError(f"the fact '{fact}' has {len(values)} values in the data, expected 2 or more; leave it out")
    return values
