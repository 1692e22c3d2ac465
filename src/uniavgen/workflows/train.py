"""Training a stage: from settings and prepared features to weights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from uniavgen.artifacts import exclusive_output
from uniavgen.checkpoint.lora import adapter_configs
from uniavgen.distributed import ParallelContext, broadcast_object
from uniavgen.errors import ConfigError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.training.callbacks import (
    ClipSampler,
    CurveCallback,
    NonFiniteGuard,
    SampleCallback,
    save_weights,
)
from uniavgen.training.config import TrainConfig
from uniavgen.training.curves import open_curves
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.loop import Callback
from uniavgen.training.randomness import default_generator
from uniavgen.training.sharding import empty_model
from uniavgen.training.stage import StageRun, build_stage_run, build_training_data, check_processes
from uniavgen.training.state import checkpoints, remove_old, restore
from uniavgen.workflows.training_samples import SampleSettings, TrainingSampler
from uniavgen.workflows.vocabulary import load_speech_symbols

UNSEEN_GRID = 8
"""Latent rows and columns of what is sampled of a model whose audio branch alone is trained."""


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

    Every process of the default group calls it, if there is one (`distributed.process_group`). No other run can write
    `out` meanwhile. vocabulary: file of the model's speech symbols, one a line; None for printable ASCII. Raises
    ConfigError where settings do not fit together or `out` holds a run already, OutputError where another process
    writes it, DataError and CheckpointError for what cannot be read.
    """
    context = ParallelContext.for_training()
    with exclusive_output(out) if context.is_main else nullcontext():
        yield _prepared_stage(config, data, out, device, init, vocabulary, resume, context)


def _prepared_stage(
    config: TrainConfig,
    data: Sequence[str],
    out: Path,
    device: torch.device,
    init: Sequence[Path],
    vocabulary: Path | None,
    resume: bool,
    context: ParallelContext,
) -> StageRun:
    check_processes(config, context)
    symbols = load_speech_symbols(vocabulary, config.model.audio.speech.num_symbols)
    saved = checkpoints(out / "checkpoints")
    if saved and not resume:
        raise ConfigError(f"{out} already holds {saved[-1].name}; add --resume to go on, or use another --out")
    training_data = build_training_data(config, data, symbols.encode)
    training_data.check_transcripts(symbols.unknown_characters)
    model = _initial_model(config, init, context)
    run = build_stage_run(config, model, training_data, out, device, context)
    if saved:
        restore(run.state, saved[-1], config.train.steps)
    if context.is_main:
        remove_old(out / "checkpoints", config.train.keep_checkpoints)
    return run


def _initial_model(config: TrainConfig, init: Sequence[Path], context: ParallelContext) -> UniAVGenTransformer:
    """Returns the model with its first weights; in other processes than the first, the same model without values."""
    if not context.is_main:
        return empty_model(config.model, broadcast_object(None, context))
    with default_generator(torch.Generator().manual_seed(config.train.seed)):
        model = UniAVGenTransformer.from_settings(config.model)
    for source in init:
        load_initial_weights(model, source)
    broadcast_object(adapter_configs(model), context)
    return model


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
    settings, context = run.config.train, run.objective.context
    with open_curves(out / "curves") if context.is_main else nullcontext() as writer:
        standard: list[Callback] = [
            NonFiniteGuard(every=settings.log_every, max_in_a_row=run.config.optim.max_skipped_steps, context=context),
            run.checkpoint_callback,
        ]
        if sample is not None and settings.sample_every:
            sampling = SampleCallback(writer=writer, sample=sample, every=settings.sample_every)
            standard.insert(1, sampling)
            if run.state.step == 0:
                sampling.sample_now(run.state)
        if writer is not None:
            standard.insert(0, CurveCallback(writer=writer, every=settings.log_every))
        run.train((*callbacks, *standard), stopped)
    if run.state.step < settings.steps:
        run.checkpoint_callback.save(run.state)
        return False
    save_weights(run.state, out / "transformer", context)
    return True


def training_sampler(
    run: StageRun, prompts: Path, codecs: Path, out: Path, assets: Path | None = None
) -> TrainingSampler:
    """Returns the sampler of a run: clips as long and as large as it is trained on, of all tasks.

    A stage of the audio branch alone has no use for more than the tasks that it trains, in small pictures. See
    `SampleSettings` for the arguments.
    """
    config, data = run.config, run.objective.dataset.data
    tasks, grid = list(Task), data.latent_grid
    if config.stage.branches == "audio":
        tasks = [task for task, ratio in config.stage.tasks.ratios.items() if ratio > 0]
        grid = (UNSEEN_GRID, UNSEEN_GRID)
    settings = SampleSettings(
        prompts=prompts,
        codecs=codecs,
        tasks=tasks,
        num_frames=config.data.num_frames,
        latent_grid=grid,
        metrics=config.validation.metrics,
        assets=assets,
    )
    return TrainingSampler(settings, out, run.objective.context)
