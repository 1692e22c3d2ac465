"""Training a stage: from settings and prepared features to weights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import torch

from uniavgen.artifacts import check_path_length, exclusive_output, path_exists
from uniavgen.checkpoint.lora import adapter_configs
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.data.buckets import Bucket
from uniavgen.data.dataset import TrainingData
from uniavgen.data.storage import is_url
from uniavgen.distributed import ParallelContext, any_process, broadcast_object, is_restarted, raise_first_error
from uniavgen.errors import ConfigError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.training.balance import BalanceCallback
from uniavgen.training.bucketing import report_misfits
from uniavgen.training.callbacks import (
    CurveCallback,
    HeldOutCallback,
    NonFiniteGuard,
    SampleCallback,
)
from uniavgen.training.checkpoint_files import PREFIX, CheckpointRecord, checkpoints, read_record, remove_old
from uniavgen.training.config import TrainConfig
from uniavgen.training.curves import open_curves
from uniavgen.training.finished_weights import save_weights
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.loop import Callback, StepRecord
from uniavgen.training.lora import INIT, base_error, check_adapter_sources
from uniavgen.training.memory import TrainingModel
from uniavgen.training.randomness import default_generator
from uniavgen.training.reach import check_trained
from uniavgen.training.sharding import empty_model
from uniavgen.training.stage import (
    PRECISIONS,
    SPEECH_SYMBOLS,
    StageRun,
    build_held_out_data,
    build_stage_run,
    build_training_data,
    check_processes,
)
from uniavgen.training.state import restore
from uniavgen.training.throughput import SpeedMeter, matmul_peak
from uniavgen.training.validation import HeldOutLosses
from uniavgen.workflows.check_training import TrainingCheck, check_training
from uniavgen.workflows.codec_fingerprints import check_codecs
from uniavgen.workflows.fit import free_gpu_bytes
from uniavgen.workflows.load_config import NANO
from uniavgen.workflows.model_files import find_model
from uniavgen.workflows.plan_training import Machine, check_training_fits
from uniavgen.workflows.training_samples import SampleSettings, TrainingSampler
from uniavgen.workflows.vocabulary import load_speech_symbols

UNFIT_FILE = "unfit.jsonl"
UNSEEN_GRID = 8
"""Latent rows and columns of what is sampled of a model whose audio branch alone is trained."""


@dataclass(frozen=True, kw_only=True)
class WatchedData:
    """What is looked at while a stage is trained; nothing by default. How often: `train.sample_every`,
    `validation.every`."""

    features: str | None = None
    """Folder of held-out features, for losses."""
    prompts: Path | None = None
    """Prompt set, or folder of shards, for sampled clips."""
    codecs: Path | None = None
    """Model folder of the codecs that sampled clips need."""
    assets: Path | None = None
    """Folder of the networks of `validation.metrics`."""


@dataclass(frozen=True, kw_only=True)
class WatchedRun:
    """A stage that is ready to be trained, and what is looked at meanwhile."""

    stage: StageRun
    held_out: HeldOutLosses | None = None
    sample: TrainingSampler | None = None

    @property
    def is_main(self) -> bool:
        """Returns whether this process writes files and prints."""
        return self.stage.objective.context.is_main

    def meter(self) -> SpeedMeter:
        """Returns a new meter of the speed of this run; on GPUs it knows the share of their peak.

        Counting a step takes some seconds for each task and bucket, which a run on a CPU is not worth.
        """
        device = self.stage.objective.device
        return SpeedMeter(device) if device.type != "cuda" else SpeedMeter(device, self._peak, self._count_flops)

    @cached_property
    def _peak(self) -> float:
        """Operations a second of all devices of the run."""
        objective, precision = self.stage.objective, self.stage.config.train.precision
        return objective.context.world_size * matmul_peak(objective.device, PRECISIONS[precision] or torch.float32)

    @cached_property
    def _count_flops(self) -> Callable[[StepRecord], float]:
        """Counts the operations of a step over all processes, those of each task and bucket once."""
        objective = self.stage.objective
        model = TrainingModel(self.stage.config, objective.context.world_size)
        clips = objective.dataset.data.clips

        @cache
        def flops_per_clip(bucket: Bucket, task: Task) -> float:
            return model.count(bucket, 1, task).flops

        def count(record: StepRecord) -> float:
            bucket = clips.buckets[clips.schedule.bucket(record.step - 1)]
            return record.data.num_clips * flops_per_clip(bucket, Task(record.task))

        return count


@contextmanager
def open_stage(
    config: TrainConfig,
    data: Sequence[str],
    out: Path,
    device: torch.device,
    *,
    init: Sequence[Path] = (),
    vocabulary: Path | None = None,
    resume: bool | Literal["force"] = False,
    watched: WatchedData = WatchedData(),
) -> Iterator[WatchedRun]:
    """Yields a run that is ready to be trained: new, with the weights of `init`, or resumed from its last checkpoint.

    Every process of the default group calls it, if there is one (`distributed.process_group`). No other run can write
    `out` meanwhile. resume: whether to go on where `out` holds a checkpoint; "force" also where settings have changed
    that repeat or skip samples. vocabulary: file of the model's speech symbols, one a line; None for those that the
    run began with, which are printable ASCII for a new one.
    Codecs in a folder of `init` or `watched` must be those of the features. Raises ConfigError where settings do not
    fit together or `out` holds a run already, OutputError where another process writes it, DataError and
    CheckpointError for what cannot be read.
    """
    context = ParallelContext.for_training()
    with exclusive_output(out) if context.is_main else nullcontext():
        check_processes(config, context)
        check_trained(config)
        # A run that torchrun has started again goes on with what it has saved in its earlier life.
        goes_on = any_process(bool(resume) or is_restarted())
        saved = broadcast_object(_saved_run(out, goes_on) if context.is_main else None, context)
        if saved is not None:
            # A checkpoint of an adapter lacks the model below it.
            init = [] if config.lora is None else init or [Path(source) for source in _listed(saved.settings.get(INIT))]
            data = data or _listed(saved.samples.get("--data"))
        if not data:
            raise ConfigError(f"{out} holds no checkpoint that names its data; add --data with prepared features")
        init = [_weights_folder(source) for source in init]
        models = [*init, *([] if watched.codecs is None else [watched.codecs])]
        recorded = [] if saved is None else _listed(saved.settings.get(SPEECH_SYMBOLS))
        symbols = load_speech_symbols(vocabulary, config.model.audio.speech.num_symbols, recorded)
        training_data = _open_data(config, data, symbols)
        held_out = (
            None if watched.features is None else build_held_out_data(training_data, watched.features, config.model)
        )
        check_codecs([*training_data.sources, *(() if held_out is None else held_out.sources)], models)
        if config.lora is not None:
            check_adapter_sources(config.lora, config.model, init)
        if device.type == "cuda":
            machine = Machine(gpus=context.world_size, memory=free_gpu_bytes(device))
            check_training_fits(config, [training_data.clips.heaviest(config.model.video.patch)], machine)
        sampler = _training_sampler(config, training_data, watched, out, context)
        model = _initial_model(config, init, context)
        run = build_stage_run(config, model, training_data, out, device, context, init, symbols.symbols())
        callback = run.checkpoint_callback
        if saved is not None:
            raise_first_error(base_error(saved.settings, callback.settings, out), callback.group)
            checkpoint = callback.folder / f"{PREFIX}{saved.step:08d}"
            restore(
                run.state,
                checkpoint,
                config.train.steps,
                callback.samples,
                force=resume == "force",
                group=callback.group,
            )
        if context.is_main:
            remove_old(callback.folder, callback.keep)
            report_misfits(training_data.clips, out / UNFIT_FILE)
        losses = None
        if held_out is not None and config.validation.every:
            losses = HeldOutLosses(objective=run.objective, data=held_out, settings=config.validation)
        yield WatchedRun(stage=run, held_out=losses, sample=sampler)


def check_stage(
    config: TrainConfig,
    data: Sequence[str],
    out: Path,
    device: torch.device,
    *,
    vocabulary: Path | None = None,
    watched: WatchedData = WatchedData(),
) -> TrainingCheck:
    """Returns what a stage would train on, decoded to `out`/check where `watched` names codecs; trains nothing.

    Raises what `open_stage` raises for data and settings, and reads no weights of a transformer.
    """
    context = ParallelContext.for_training()
    if context.world_size > 1:
        raise ConfigError(
            "one process checks a stage; start it without torchrun, and see `uniavgen plan --train` for many GPUs"
        )
    check_trained(config)
    symbols = load_speech_symbols(vocabulary, config.model.audio.speech.num_symbols)
    training_data = _open_data(config, data, symbols)
    check_codecs(training_data.sources, [] if watched.codecs is None else [watched.codecs])
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    with exclusive_output(out):
        return check_training(config, training_data, out, Machine(memory=memory), watched.codecs, device)


def _open_data(config: TrainConfig, folders: Sequence[str], symbols: SpeechSymbols) -> TrainingData:
    """Opens the data. Raises DataError where it does not fit the model, ConfigError for a name that no folder has."""
    for folder in folders:
        if not is_url(folder):
            check_path_length(Path(folder))
    data = build_training_data(config, folders, symbols)
    data.check_transcripts()
    return data


def _weights_folder(source: Path) -> Path:
    """Returns the folder of weights to begin with, which for `nano` lies in this package unless there is one here."""
    is_packaged = str(source) == NANO and not path_exists(source)
    return (find_model(NANO) or source) if is_packaged else source


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


def _listed(recorded: object) -> list[str]:
    """Returns the names in a record that people may have changed; none where it holds something else."""
    return [str(name) for name in recorded] if isinstance(recorded, list) else []


def _saved_run(out: Path, resume: bool) -> CheckpointRecord | None:
    """Returns what the last checkpoint says; None where a run begins. Raises ConfigError where it is not to go on."""
    saved = checkpoints(out / "checkpoints")
    if not saved:
        return None
    if not resume:
        raise ConfigError(f"{out} already holds {saved[-1].name}; add --resume to go on, or use another --out")
    return read_record(saved[-1])


def train_stage(
    run: WatchedRun,
    out: Path,
    *,
    callbacks: Iterable[Callback] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains to the last step and writes the weights to `out`/transformer; returns False where `stopped()` ended it.

    A run that was stopped is saved as a checkpoint. Curves go to `out`/curves, with held-out losses and sampled clips.
    """
    stage, config = run.stage, run.stage.config
    settings, context = config.train, stage.objective.context
    writing = open_curves(out / "curves", stage.state.step) if context.is_main else nullcontext()
    with writing as writer, stage.checkpoint_callback:
        curves = [] if writer is None else [CurveCallback(writer=writer, every=settings.log_every, meter=run.meter())]
        watching: list[HeldOutCallback | SampleCallback] = []
        if run.held_out is not None:
            watching.append(HeldOutCallback(writer=writer, measure=run.held_out, every=config.validation.every))
        if run.sample is not None:
            watching.append(SampleCallback(writer=writer, sample=run.sample, every=settings.sample_every))
        guard = NonFiniteGuard(every=settings.log_every, max_in_a_row=config.optim.max_skipped_steps, context=context)
        if stage.state.step == 0:
            for callback in watching:
                callback.run_now(stage.state)
        balance = BalanceCallback(writer=writer, every=settings.log_every)
        together = (*callbacks, *curves, balance, guard, *watching, stage.checkpoint_callback)
        # All processes stop after the same step, whichever was told.
        stage.train(together, lambda: any_process(stopped()))
        if stage.state.step < settings.steps:
            stage.checkpoint_callback.save(stage.state)
            return False
    save_weights(stage.state, out / "transformer", context)
    return True


def _training_sampler(
    config: TrainConfig, data: TrainingData, watched: WatchedData, out: Path, context: ParallelContext
) -> TrainingSampler | None:
    """Returns what samples clips as long and as large as most of the data, of all tasks; None where none are wanted.

    A stage of the audio branch alone has no use for more than the tasks that it trains, in small pictures.
    """
    if watched.prompts is None or watched.codecs is None or not config.train.sample_every:
        return None
    tasks, bucket = list(Task), data.clips.largest
    grid = (bucket.rows, bucket.columns)
    if config.stage.branches == "audio":
        tasks = [task for task, ratio in config.stage.tasks.ratios.items() if ratio > 0]
        grid = (UNSEEN_GRID, UNSEEN_GRID)
    # Times as in training, each modality its own.
    shifts = {"shift": config.stage.shift}
    if config.stage.audio_shift is not None:
        shifts["audio_shift"] = config.stage.audio_shift
    settings = SampleSettings(
        prompts=watched.prompts,
        codecs=watched.codecs,
        tasks=tasks,
        num_frames=bucket.timing.num_frames,
        latent_grid=grid,
        sampling=shifts,
        metrics=config.validation.metrics,
        assets=watched.assets,
    )
    return TrainingSampler(settings, out, context)
