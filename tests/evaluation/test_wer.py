"""Word error rate: the counting, the names of columns, and Whisper's real class with random weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metrics.wer import WordErrorRate, wer_columns, word_error_rate
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.errors import NotMeasured

from .builders import context_with, plain_clip


@pytest.mark.parametrize(
    ("recognised", "expected", "rate"),
    [
        ("the cat sat", "the cat sat", 0),
        ("the bat sat", "the cat sat", 1 / 3),
        ("the sat", "the cat sat", 1 / 3),
        ("the big cat sat", "the cat sat", 1 / 3),
        ("", "the cat sat", 1),
        ("a b c d", "x", 4),
    ],
)
def test_rate_counts_insertions_deletions_and_substitutions(recognised, expected, rate):
    assert word_error_rate(recognised.split(), expected.split()) == pytest.approx(rate)


def test_wer_of_an_empty_transcript_is_not_measured():
    with pytest.raises(NotMeasured):
        word_error_rate(["a"], [])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/whisper-large-v3", "wer"),
        ("faster-whisper-large-v3", "wer"),
        ("whisper-base", "wer_whisper_base"),
        ("openai/whisper-large-v3-turbo", "wer_whisper_large_v3_turbo"),
    ],
)
def test_paper_column_is_filled_by_the_papers_model_alone(model, name):
    assert wer_columns(model)[0].name == name


def test_silence_is_not_given_to_whisper(tmp_path):
    pytest.importorskip("whisper_normalizer", reason="whisper-normalizer is not installed (extra eval)")
    metric = WordErrorRate(context_with("whisper", tmp_path / "never read", "whisper-base"))
    prompt = Prompt(id="a", speech="It's twenty-one.")
    for clip in (plain_clip(loudness=1e-4), plain_clip(waveform=None)):
        result = metric.measure(clip, prompt)
        assert result.scores == {"wer_whisper_base": 1}
        assert result.details["transcript/wer_whisper_base"]["script_words"] == "it is 21"


def test_folder_that_holds_no_model_is_one_sentence(tmp_path):
    pytest.importorskip("whisper_normalizer", reason="whisper-normalizer is not installed (extra eval)")
    metric = WordErrorRate(context_with("whisper", tmp_path, "mine"))
    prompt = Prompt(id="a", speech="word")
    with pytest.raises(CheckpointError, match="no Whisper model that can be loaded"):
        metric.measure(plain_clip(), prompt)


@pytest.mark.parametrize("is_multilingual", [True, False])
def test_whisper_of_random_weights_is_deterministic(is_multilingual, tmp_path):
    pytest.importorskip("whisper_normalizer", reason="whisper-normalizer is not installed (extra eval)")
    _save_whisper(tmp_path / "tiny", is_multilingual)
    prompt = Prompt(id="a", speech="some words to say")
    rates = []
    for _ in range(2):
        metric = WordErrorRate(context_with("whisper", tmp_path / "tiny", "tiny"))
        result = metric.measure(plain_clip(), prompt)
        rates.append((result.scores["wer_tiny"], result.details["transcript/wer_tiny"]["heard"]))
    assert rates[0] == rates[1]
    assert np.isfinite(rates[0][0])


def test_transcript_belongs_to_the_sound_and_not_to_the_file(tmp_path):
    pytest.importorskip("whisper_normalizer", reason="whisper-normalizer is not installed (extra eval)")
    _save_whisper(tmp_path / "tiny", is_multilingual=True)
    prompt = Prompt(id="a", speech="some words to say")
    metric = WordErrorRate(context_with("whisper", tmp_path / "tiny", "tiny"))
    clip = plain_clip()
    assert clip.waveform is not None
    sounds = (clip.waveform, np.zeros_like(clip.waveform), clip.waveform)
    recognised = [
        metric.measure(replace(clip, waveform=sound), prompt).details["transcript/wer_tiny"]["heard"]
        for sound in sounds
    ]
    assert recognised[0] == recognised[2] != recognised[1] == ""


def _save_whisper(folder: Path, is_multilingual: bool) -> None:
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|transcribe|>",
        "<|translate|>",
        "<|notimestamps|>",
    ]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + ["\u0120"]
    vocabulary = {token: number for number, token in enumerate([*letters, *special])}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    WhisperProcessor(WhisperFeatureExtractor(feature_size=8), tokenizer).save_pretrained(folder)
    config = WhisperConfig(
        vocab_size=len(vocabulary), num_mel_bins=8, d_model=8, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8,
        max_target_positions=16, decoder_start_token_id=vocabulary["<|startoftranscript|>"],
        eos_token_id=vocabulary["<|endoftext|>"], pad_token_id=vocabulary["<|endoftext|>"],
        bos_token_id=vocabulary["<|endoftext|>"], suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config)
    model.save_pretrained(folder)
    generation = json.loads((folder / "generation_config.json").read_text()) | {
        "is_multilingual": is_multilingual,
        "no_timestamps_token_id": vocabulary["<|notimestamps|>"],
        "lang_to_id": {"<|en|>": vocabulary["<|en|>"]},
        "task_to_id": {name: vocabulary[f"<|{name}|>"] for name in ("transcribe", "translate")},
    }
    (folder / "generation_config.json").write_text(json.dumps(generation))
