"""Training of the small caption encoder: its features must tell the facts of a caption, and every word of it.

Each fact has a query that attends over the features, as the video branch does. Some words are hidden; all are told from
their own feature. [ours]

Letters: b batch, m caption tokens, d width, facts.
"""

import json
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from uniavgen.codecs.caption import NANO_MAX_TOKENS, clean_text, word_tokenizer
from uniavgen.config import Config
from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.synth.appearance import sample_style
from uniavgen.synth.captions import build_caption, person_words
from uniavgen.synth.identity import ANCESTRIES, GENDERS, Identity
from uniavgen.synth.moods import MOODS, STRENGTHS
from uniavgen.synth.scene import PLACES
from uniavgen.training.codecs.loop import LoopConfig, Objective, seeded, step_rng

IGNORED_CLASS = -100
"""Class of a fact that a sample lacks; carries no loss."""


@dataclass(frozen=True, kw_only=True)
class CaptionEncoderConfig(Config):
    """Size of a small umT5 encoder [ours]."""

    width: int = 128
    hidden: int = 256
    num_heads: int = 4
    num_layers: int = 2
    max_tokens: int = NANO_MAX_TOKENS

    def build(self, vocabulary: int) -> UMT5EncoderModel:
        """A new encoder with random weights."""
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
    loop: LoopConfig
    batch_size: int = 32
    num_captions: int = 20_000
    """Captions that the synthetic world writes, where no data is given."""
    facts: tuple[str, ...]
    """What a caption tells: keys of the samples' json, or of `Described.facts`."""
    bounds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Where a fact that is a number is cut into classes, by name."""
    word_drop: float = 0.15
    """Share of tokens that are hidden."""
    word_weight: float = 1.0
    """Of telling the words, against telling the facts."""


@dataclass(frozen=True, kw_only=True)
class CaptionExample:
    """A caption and the facts that it tells."""

    caption: str
    facts: Mapping[str, str]


class FactClassifier(nn.Module):
    """The encoder under training, and for each fact a query over its features and a classifier."""

    def __init__(self, encoder: UMT5EncoderModel, num_values: Sequence[int]) -> None:
        super().__init__()
        width = encoder.config.d_model
        self.encoder = encoder
        self.queries = nn.Parameter(torch.randn(len(num_values), width) / width**0.5)
        self.classifiers = nn.ModuleList(nn.Linear(width, count) for count in num_values)

    def forward(
        self, ids: Int[Tensor, "b m"], mask: Int[Tensor, "b m"]
    ) -> tuple[list[Float[Tensor, "b values"]], Float[Tensor, "b m words"]]:
        """Scores of the values of each fact, and of the words at each place."""
        features = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        scores = einsum(self.queries, features, "facts d, b m d -> b facts m")
        scores = scores.masked_fill(rearrange(mask, "b m -> b 1 m") == 0, float("-inf"))
        read = einsum(scores.softmax(dim=-1), features, "b facts m, b m d -> b facts d")
        facts = [classifier(read[:, i]) for i, classifier in enumerate(self.classifiers)]
        words = self.encoder.get_input_embeddings().weight
        return facts, einsum(features, words, "b m d, words d -> b m words") / features.shape[-1] ** 0.5


class CaptionObjective(Objective):
    """Classification of the facts of captions."""

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
        with seeded(config.loop.seed):
            encoder = config.model.build(len(self.tokenizer))
            self.model = FactClassifier(encoder, [len(values) for values in self.values.values()]).to(device)

    @property
    def encoder(self) -> UMT5EncoderModel:
        return self.model.encoder

    def losses(self, step: int) -> dict[str, Tensor]:
        rng = step_rng(self.config.loop.seed, step)
        rows = torch.from_numpy(rng.integers(len(self.ids), size=self.config.batch_size))
        mask = self.mask[rows]
        longest = int(mask.sum(dim=1).max())
        ids, mask = self.ids[rows, :longest], mask[:, :longest]
        hidden = torch.from_numpy(rng.random(ids.shape) < self.config.word_drop)
        shown = torch.where(hidden & (mask == 1), self.tokenizer.unk_token_id, ids)
        guesses, words = self.model(shown.to(self.device), mask.to(self.device))
        written = torch.where(mask == 1, ids, IGNORED_CLASS).to(self.device)
        word_loss = F.cross_entropy(rearrange(words, "b m words -> b words m"), written, ignore_index=IGNORED_CLASS)
        truth = self.classes[rows].to(self.device)
        told = [
            F.cross_entropy(guess, truth[:, i], ignore_index=IGNORED_CLASS)
            for i, guess in enumerate(guesses)
            if (truth[:, i] != IGNORED_CLASS).any()
        ]
        fact_loss = torch.stack(told).mean()
        total = fact_loss + self.config.word_weight * word_loss
        return {"total": total, "facts": fact_loss.detach(), "words": word_loss.detach()}

    def classes_of(self, examples: Sequence[CaptionExample]) -> Int[Tensor, "b facts"]:
        """Class of each fact of each example, IGNORED_CLASS where it has none or one that the training data lacks."""
        numbers = {fact: {value: i for i, value in enumerate(values)} for fact, values in self.values.items()}
        rows = [
            [numbers[fact].get(example.facts.get(fact, ""), IGNORED_CLASS) for fact in numbers] for example in examples
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
    """Captions and facts of the samples of a folder of shards; samples without a caption are left out."""
    shards = ShardSet(folder)
    described = []
    for i in range(len(shards)):
        facts = json.loads(shards.read(i, "json"))
        if facts.get("caption"):
            plain = {name: value for name, value in facts.items() if isinstance(value, str)}
            plain |= {name: str(bisect(cuts, facts[name])) for name, cuts in bounds.items() if name in facts}
            described.append(CaptionExample(caption=facts["caption"], facts=plain))
    if not described:
        raise DataError(f"no sample of {folder} has a caption; give a folder that `uniavgen synth` wrote")
    return described


def synthetic_caption_examples(number: int, seed: int) -> list[CaptionExample]:
    """Captions that the synthetic world would write, without drawing a picture, and what each of them tells."""
    return [_world_description(np.random.default_rng((seed, i))) for i in range(number)]


def _world_description(rng: np.random.Generator) -> CaptionExample:
    ancestry = rng.dirichlet(np.full(len(ANCESTRIES), 0.5))
    gender, age = str(rng.choice(GENDERS)), float(rng.uniform(8, 82))
    identity = Identity(gender=gender, age=age, ancestry=ancestry, weights=np.zeros(0))
    style, place = sample_style(identity, rng), str(rng.choice(PLACES))
    mood, strength = MOODS[rng.integers(len(MOODS))], float(rng.choice(STRENGTHS))
    text = build_caption(identity, style, mood, strength, place, rng)
    told = {"gender": gender, "mood": mood.name, "age": person_words(identity)}
    told |= {"glasses": str("glasses" in text), "beard": str("beard" in text)}
    if style.hair_colour in text:
        told |= {"hair_colour": style.hair_colour, "hair_style": style.hair_style}
    if place in text:
        told["place"] = place
    return CaptionExample(caption=text, facts=told)


def _values(examples: Sequence[CaptionExample], fact: str) -> list[str]:
    values = sorted({example.facts[fact] for example in examples if fact in example.facts})
    if len(values) < 2:
        raise DataError(f"the fact '{fact}' has {len(values)} values in the data, expected 2 or more; leave it out")
    return values
