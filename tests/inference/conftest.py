"""A whole pipeline of random weights, small enough for unit tests; a clip of 17 frames of 32 x 32 px."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from transformers import UMT5Config, UMT5EncoderModel

from uniavgen.codecs.caption import word_tokenizer
from uniavgen.codecs.speech_symbols import ASCII_SYMBOLS, SpeechSymbols
from uniavgen.codecs.video_vae import VideoVaeShape
from uniavgen.codecs.vocoder import NanoVocoder
from uniavgen.config import dump, load
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.resize import ResizeAndCrop
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights of no special kind, so that nothing is hidden by an output that starts at zero.

    They are added to those that a module was built with: build it inside `begin`.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@contextmanager
def fixed_initialisation() -> Iterator[None]:
    """Modules that are built inside begin with the same weights whatever ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@fixed_initialisation()
def tiny_transformer() -> UniAVGenTransformer:
    settings = load(TransformerConfig, ["tiny/model"])
    speech = replace(settings.audio.speech, num_symbols=len(ASCII_SYMBOLS))
    transformer = UniAVGenTransformer.from_settings(
        replace(settings, audio=replace(settings.audio, mel_bins=80, speech=speech))
    )
    randomise(transformer, 1)
    return transformer.eval()


@pytest.fixture(scope="session")
def pipeline() -> UniAVGenPipeline:
    return tiny_pipeline()


@pytest.fixture
def fresh_pipeline() -> UniAVGenPipeline:
    """One that a test may change."""
    return tiny_pipeline()


@fixed_initialisation()
def tiny_pipeline() -> UniAVGenPipeline:
    transformer = tiny_transformer()
    video = transformer.settings.video
    vae = VideoVaeShape(
        width=4, decoder_width=4, latent_channels=video.latent_channels, width_factors=(1, 1, 2, 2)
    ).build()
    tokenizer = word_tokenizer(["a woman speaks"], max_tokens=video.caption_tokens)
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), d_model=video.caption_width, d_kv=6, d_ff=12, num_layers=1, num_heads=2)
    )
    randomise(text_encoder, 2)
    randomise(vae, 3)
    pipe = UniAVGenPipeline(
        transformer=transformer,
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        speech_tokenizer=SpeechSymbols.of(),
        vocoder=NanoVocoder(width=8, hidden=12, num_layers=1).eval(),
        picture_config=dump(ResizeAndCrop(height=32, width=32)),
        sampling_config=dump(SamplingConfig(steps=2)),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
