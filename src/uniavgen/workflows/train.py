"""Training a stage: from settings and prepared features to weights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from uniavgen.artifacts import exclusive_output
from uniavgen.data.sample import read_sample
from uniavgen.data.shards import ShardSet
from uniavgen.errors import ConfigError
from uniavgen.inference.request import Request
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase
from uniavgen.training.callbacks import (
    ClipSampler,
    CurveCallback,
    NonFiniteGuard,
    SampleCallback,
    SampledClip,
    save_weights,
)
from uniavgen.training.config import TrainConfig
from uniavgen.training.curves import open_curves
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.loop import Callback
from uniavgen.training.randomness import default_generator
from uniavgen.training.stage import StageRun, build_stage_run, build_training_data
from uniavgen.training.state import checkpoints, remove_old, restore
from uniavgen.workflows.load_codecs import load_codecs
from uniavgen.workflows.vocabulary import load_speech_symbols

NUM_SAMPLED_CLIPS = 2
SAMPLED_CLIP_STEPS = 20


@contextmanager
def open_stage(
    config: TrainConfig,
    data: Sequence[str],
    out: Path,
    device: torch.device,
    *,
    init: Sequence[Path] = (),
    vocabulary: Path | None = None,
    resume: bool = False,
) -> Iterator[StageRun]:
    """Yields a run that is ready to be trained: new, with the weights of `init`, or resumed from its last checkpoint.

    No other process can write `out` meanwhile. vocabulary: file of the model's speech symbols, one a line; None for
    printable ASCII. Raises ConfigError where settings do not fit together or `out` holds a run already, OutputError
    where another process writes it, DataError and CheckpointError for what cannot be read.
    """
    with exclusive_output(out):
        yield _prepared_stage(config, data, out, device, init, vocabulary, resume)


def _prepared_stage(
    config: TrainConfig,
    data: Sequence[str],
    out: Path,
    device: torch.device,
    init: Sequence[Path],
    vocabulary: Path | None,
    resume: bool,
) -> StageRun:
    symbols = load_speech_symbols(vocabulary, config.model.audio.speech.num_symbols)
    saved = checkpoints(out / "checkpoints")
    if saved and not resume:
        raise ConfigError(f"{out} already holds {saved[-1].name}; add --resume to go on, or use another --out")
    training_data = build_training_data(config, data, symbols.encode)
    training_data.check_transcripts(symbols.unknown_characters)
    with default_generator(torch.Generator().manual_seed(config.train.seed)):
        model = UniAVGenTransformer.from_settings(config.model)
    for source in init:
        load_initial_weights(model, source)
    run = build_stage_run(config, model, training_data, out, device)
    if saved:
        restore(run.state, saved[-1], config.train.steps)
    remove_old(out / "checkpoints", config.train.keep_checkpoints)
    return run


def train_stage(
    run: StageRun,
    out: Path,
    *,
    callbacks: Iterable[Callback] = (),
    sample: ClipSampler | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains to the last step and writes the weights to `out`/transformer; returns False where `stopped()` ended it.

    A run that was stopped is saved as a checkpoint. Curves go to `out`/curves, with clips of `sample` among them.
    """
    settings = run.config.train
    with open_curves(out / "curves") as writer:
        standard: list[Callback] = [
            CurveCallback(writer=writer, every=settings.log_every),
            NonFiniteGuard(every=settings.log_every, max_in_a_row=run.config.optim.max_skipped_steps),
            run.checkpoint_callback,
        ]
        if sample is not None and settings.sample_every:
            standard.insert(1, SampleCallback(writer=writer, sample=sample, every=settings.sample_every))
        run.train((*callbacks, *standard), stopped)
    if run.state.step < settings.steps:
        run.checkpoint_callback.save(run.state)
        return False
    save_weights(run.state, out / "transformer")
    return True


def held_out_sampler(shards: Path, codecs: Path) -> ClipSampler:
    """Returns a function that generates a few held-out samples anew, with the model under training.

    shards: folder of the samples; codecs: model folder.
    """
    shard_set, loaded = ShardSet(shards), load_codecs(codecs)
    samples = [read_sample(shard_set, i, Timebase()) for i in range(min(NUM_SAMPLED_CLIPS, len(shard_set)))]

    def sample_clips(model: nn.Module) -> list[SampledClip]:
        assert isinstance(model, UniAVGenTransformer)
        clips = []
        for number, source in enumerate(samples):
            assert source.frames is not None
            request = Request(
                task=Task.JOINT,
                speech=source.text,
                caption=source.caption,
                image=source.frames[0],
                steps=SAMPLED_CLIP_STEPS,
                seed=number,
            )
            pipeline = loaded.build_pipeline(model, size=source.frames.shape[1]).to(model.device)
            clip = pipeline(request)
            clips.append(SampledClip(name=f"clip {number}", frames=clip.frames, mel=clip.mel, waveform=clip.waveform))
        return clips

    return sample_clips
