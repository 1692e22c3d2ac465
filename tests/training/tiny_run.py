"""A data set and a run of the smallest real model."""

from collections.abc import Container
from dataclasses import replace
from pathlib import Path

import torch

from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.config import load
from uniavgen.data.features import EMPTY_CAPTION, Features
from uniavgen.data.shards import ShardWriter
from uniavgen.data.words import Word
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.config import TrainConfig
from uniavgen.training.stage import StageRun, build_stage_run, build_training_data

SETTINGS = load(TransformerConfig, ["tiny/model"])
FRAMES = 9
TIMING = SETTINGS.timebase.clip(FRAMES)
NUM_CLIPS = 5


class FoldedSymbols(SpeechSymbols):
    """Has an id for every character, however few symbols the tiny model has."""

    def ids(self, symbols):
        return [1 + ord(letter) % SETTINGS.audio.speech.num_symbols for letter in symbols]


symbols = FoldedSymbols.of()


def write_features(folder: Path, unknown: Container[int] = ()) -> str:
    """Faces, mouths and times of words are not known in the clips `unknown`."""
    generator = torch.Generator().manual_seed(0)
    video, audio = SETTINGS.video, SETTINGS.audio

    def features(key: str, speaker: str, known: bool = True) -> Features:
        words = [Word(text=w, start_s=0.1 * k, end_s=0.1 * k + 0.1) for k, w in enumerate(("so", "it", "is"))]
        complete = Features(
            key=key,
            text="so it is",
            speaker=speaker,
            words=tuple(words),
            mel=torch.randn(TIMING.num_audio_tokens, audio.mel_bins, generator=generator),
            latents=torch.randn(video.latent_channels, TIMING.num_latent_frames, 4, 6, generator=generator),
            face_mask=torch.rand(TIMING.num_latent_frames, 6, generator=generator),
            caption=torch.randn(3, video.caption_width, generator=generator),
        )
        if not known:
            return replace(complete, words=(), face_mask=None)
        return complete if not unknown else replace(complete, mouth_opening=torch.linspace(0, 1, FRAMES))

    with ShardWriter(folder) as writer:
        writer.write(EMPTY_CAPTION, features(EMPTY_CAPTION, "").to_parts())
        for i in range(NUM_CLIPS):
            writer.write(f"clip{i}", features(f"clip{i}", f"speaker{i % 2}", i not in unknown).to_parts())
    return str(folder)


def config(*overrides: str) -> TrainConfig:
    """Stage 3 of nano on the tiny model."""
    small = [
        "model=tiny/model",
        f"data.num_frames={FRAMES}",
        "data.latent_stride=16",
        "train.steps=6",
        "train.batch_size=2",
        "train.precision=fp32",
        "train.compile=false",
        "optim.warmup_steps=2",
        "stage.tasks.reference_s=[0.2,0.4]",
        "stage.tasks.ratios={joint: 4, reference_audio: 1, continuation: 1, dubbing: 2, animation: 2}",
        "stage.losses={face_mask: {start: 0.1, end: 0.0}, face_focus: 0.0}",
        "stage.shift=5.0",
        "optim.lr=5.0e-4",
    ]
    return load(TrainConfig, ["nano/stage3"], [*small, *overrides])


def model(seed: int = 0, settings: TransformerConfig = SETTINGS) -> UniAVGenTransformer:
    torch.manual_seed(seed)
    transformer = UniAVGenTransformer.from_settings(settings)
    # Zero-initialised layers hide what stands before them.
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return transformer


def run(
    folder: str,
    out: Path,
    settings: TrainConfig | None = None,
    seed: int = 0,
    context: ParallelContext = SINGLE_PROCESS,
    trained: UniAVGenTransformer | None = None,
) -> StageRun:
    """A run of `trained`, or of the model with this seed."""
    settings = settings or config()
    data = build_training_data(settings, [folder], symbols)
    return build_stage_run(settings, trained or model(seed), data, out, torch.device("cpu"), context)
