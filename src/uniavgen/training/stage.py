"""A stage of training out of its settings: data, model, objective, optimiser, checkpoints."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniavgen.checkpoint.lora import has_adapter
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.config import dump
from uniavgen.data.clip_reader import CacheConfig
from uniavgen.data.dataset import Batch, CaptionSize, TrainingData
from uniavgen.data.features import FeatureSet
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import ConfigError, DataError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.kernels import AttentionKernel, compile_blocks, use_attention
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.bucketing import bucket_clips
from uniavgen.training.callbacks import CheckpointCallback
from uniavgen.training.config import DataConfig, StageConfig, TrainConfig
from uniavgen.training.data_watch import DataWatch
from uniavgen.training.dataloader import StepDataset, load_batches, micro_batches
from uniavgen.training.ema import EMA
from uniavgen.training.loop import Callback, train
from uniavgen.training.lora import BASE, INIT, add_adapter, base_fingerprint, check_base_storage
from uniavgen.training.losses import Losses, process_means, total_counts
from uniavgen.training.mouth_probe import LinearMouthProbe
from uniavgen.training.objective import DataReport, Objective
from uniavgen.training.optimizer import build_optimizer, select_trainable
from uniavgen.training.randomness import SampleRandomness, default_generator
from uniavgen.training.sharding import begin_backward, load_sharded, shard_degree, shard_model, sharding_mesh
from uniavgen.training.state import TrainState
from uniavgen.training.step import NoPrediction, step_losses

MOUTH_PROBE_CLIPS = 512
"""Clips on which the probe is fitted, over all feature sets."""
SPEECH_SYMBOLS = "speech_symbols"
"""Key in a checkpoint's settings: the symbols in order of their ids, so that a run goes on with its own."""
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def precision_context(precision: str, device_type: str) -> AbstractContextManager:
    """Returns the context in which a model runs in a precision of `RunConfig`."""
    dtype = PRECISIONS[precision]
    # Each weight is cast once a pass, so that keeping the casts to its end would take two bytes a weight for nothing.
    return nullcontext() if dtype is None else torch.autocast(device_type, dtype=dtype, cache_enabled=False)


class StageObjective(Objective[Batch]):
    """The losses of a stage on its data, in the precision of the run."""

    model: UniAVGenTransformer

    def __init__(
        self,
        config: TrainConfig,
        model: UniAVGenTransformer,
        data: TrainingData,
        device: torch.device,
        context: ParallelContext = SINGLE_PROCESS,
    ) -> None:
        self.config = config
        self.model = model
        self.device = device
        self.context = context
        self.mouth_probe = fit_mouth_probe(config, data)
        self.dataset = StepDataset(
            data=data,
            mixture=config.stage.tasks,
            seed=config.train.seed,
            context=context,
        )
        self.data_watch = DataWatch(
            max_damaged_share=config.data.max_damaged_share,
            num_clips=sum(data.clips.counts),
            context=context,
        )

    def batch(self, step: int) -> Batch:
        return self.dataset[step]

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        settings, pin = self.config.data, self.device.type == "cuda"
        return load_batches(self.dataset, first, last, settings.workers, prefetch=settings.prefetch, pin=pin)

    def report_data(self, batch: Batch, wait_s: float) -> DataReport:
        report = self.data_watch.report(batch.damaged, batch.num_read, wait_s)
        # All processes have as many clips, of one size.
        num_clips = batch.mel.shape[0] * self.context.world_size
        num_tokens = num_clips * self._tokens_per_clip(batch)
        return replace(report, num_clips=num_clips, num_tokens=num_tokens, epoch=batch.epoch)

    def _tokens_per_clip(self, batch: Batch) -> int:
        audio, video = batch.mel.shape[1], 0
        if batch.latents is not None:
            _, patch_rows, patch_columns = self.config.model.video.patch
            frames, rows, columns = batch.latents.shape[2:]
            video = frames * (rows // patch_rows) * (columns // patch_columns)
        return audio + video

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        settings = self.config.train
        stage, weights = self.config.stage, self.config.stage.losses.at(step, settings.steps)
        losses = self.clip_losses(batch, self._randomness(step), stage, self.mouth_probe, weights)
        means = losses.means(self.context)
        return {**means.reported(), "total": means.total(self.config.stage.losses, step, settings.steps)}

    def backward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        settings, stage, context = self.config.train, self.config.stage, self.context
        size = settings.micro_batch_size or batch.mel.shape[0]
        inputs = list(zip(micro_batches(batch, size), self._randomness(step).split(size), strict=True))
        if len(inputs) == 1:
            return super().backward(batch, step)
        # Every part is divided by the counts of all, so they must be known before the first backward pass.
        weights = stage.losses.at(step, settings.steps)
        nothing = NoPrediction(self.config.model.video.patch)
        counted = [step_losses(nothing, *one, stage, self.mouth_probe, weights) for one in inputs]
        counts = total_counts(counted, context)
        sums: dict[str, Tensor] = {}
        for number, one in enumerate(inputs, start=1):
            begin_backward(self.model, number == len(inputs), self.config.sharding.reshard_after_forward)
            shares = self.clip_losses(*one, stage, self.mouth_probe, weights).shares(counts, context)
            total = shares.total(stage.losses, step, settings.steps)
            total.backward()
            for name, share in {**shares.reported(), "total": total.detach()}.items():
                sums[name] = sums.get(name, 0.0) + share
        return dict(zip(sums, process_means(torch.stack(list(sums.values())), context), strict=True))

    def clip_losses(
        self,
        batch: Batch,
        randomness: SampleRandomness,
        stage: StageConfig,
        probe: LinearMouthProbe | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Losses:
        """Returns the losses of the clips of this process, in the precision of the run; see `step.step_losses`."""
        with precision_context(self.config.train.precision, self.device.type):
            return step_losses(self.model, batch, randomness, stage, probe, weights)

    def _randomness(self, step: int) -> SampleRandomness:
        return SampleRandomness(seed=self.config.train.seed, samples=self.dataset.samples(step))

    def task(self, batch: Batch) -> str:
        return batch.spec.task.value


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """A stage that is ready to be trained, at step 0 or where it was restored to."""

    config: TrainConfig
    objective: StageObjective
    state: TrainState
    checkpoint_callback: CheckpointCallback

    def train(self, callbacks: Iterable[Callback] = (), stopped: Callable[[], bool] = lambda: False) -> None:
        """Trains to the last step, or until `stopped()` is true; see `loop.train`."""
        optim = self.config.optim
        schedule = optim.schedule(self.config.train.steps)
        train(
            self.objective,
            self.state,
            schedule,
            max_grad_norm=optim.max_grad_norm,
            callbacks=callbacks,
            stopped=stopped,
        )


def build_stage_run(
    config: TrainConfig,
    model: UniAVGenTransformer,
    data: TrainingData,
    out: Path,
    device: torch.device,
    context: ParallelContext = SINGLE_PROCESS,
    init: Sequence[Path] = (),
    speech_symbols: Sequence[str] = (),
) -> StageRun:
    """Returns a run at step 0 that trains `model`, which is moved to `device`, or sharded over several processes.

    init: where the model's weights are from, and speech_symbols: what the ids of its speech stand for. Checkpoints tell
    both, since an adapter needs the model below it, and ids mean nothing without their symbols.
    Of several processes only the first one's weights count; the others' model may lie on the meta device. Raises
    ConfigError where the settings do not fit the model.
    """
    base = base_fingerprint(model) if config.lora is not None and context.is_main else None
    select_trained(model, config)
    if device.type == "cpu":
        use_attention(model, AttentionKernel.MATH)  # The fused kernel's backward pass takes twice as long on a CPU.
    model.checkpoint_activations(config.train.activation_checkpointing)
    if config.train.compile:
        compile_blocks(model)
    # Moments and averages are those of the shards, so that both are made of the sharded model.
    _place(model, config, device, context)
    state = TrainState(
        model=model,
        optimizer=build_optimizer(model, config.optim),
        ema=EMA(model, config.train.ema) if config.train.ema else None,
    )
    return StageRun(
        config=config,
        objective=StageObjective(config, model, data, device, context),
        state=state,
        checkpoint_callback=CheckpointCallback(
            folder=out / "checkpoints",
            settings={
                "train": dump(config),
                "transformer": dump(model.settings),
                INIT: [str(source.resolve()) for source in init],
                BASE: base,
                SPEECH_SYMBOLS: [*speech_symbols],
            },
            samples=_sample_settings(config, data),
            every=config.train.checkpoint_every,
            minutes=config.train.checkpoint_minutes,
            keep=config.train.keep_checkpoints,
        ),
    )


def check_processes(config: TrainConfig, context: ParallelContext) -> None:
    """Raises ConfigError where the processes cannot share a batch, or copies of the model, evenly or at all."""
    context.share(range(config.train.shared_clips))
    shard_degree(config.sharding, 0, context.world_size)
    if config.lora is not None:
        check_base_storage(config.lora, context)


def _place(model: UniAVGenTransformer, config: TrainConfig, device: torch.device, context: ParallelContext) -> None:
    """Moves the model to the device of the only process, or shards it over the devices of several.

    One process does without FSDP, which would keep a second copy of the weights that it computes with.
    """
    if context.world_size == 1:
        model.to(device)
        return
    settings = config.sharding
    degree = shard_degree(settings, model.num_parameters(), context.world_size)
    weights = model.state_dict() if context.is_main else {}
    shard_model(
        model.to("meta"),
        sharding_mesh(device.type, context.world_size, degree),
        dtype=PRECISIONS[config.train.precision] if degree > 1 else None,
        # Weights that lie in one process need no gathering.
        reshard_after_forward=settings.reshard_after_forward and degree > 1,
        prefetch_blocks=settings.prefetch_blocks,
    )
    load_sharded(model, weights, device)


def _sample_settings(config: TrainConfig, data: TrainingData) -> dict[str, Any]:
    """Returns what decides which samples a step draws, by the names that a user knows."""
    settings = dump(config)
    names = {
        "data": ("weights", "num_frames", "lengths", "sizes"),
        "train": ("seed", "batch_size", "batch_tokens", "batch_multiple"),
        "stage": ("tasks",),
    }
    return {
        "--data": [source.folder for source in data.sources],
        "the number of clips": [len(source) for source in data.sources],
        **{f"{part}.{name}": settings[part][name] for part, chosen in names.items() for name in chosen},
    }


def select_trained(model: UniAVGenTransformer, config: TrainConfig) -> None:
    """Lets what the settings name be trained: an adapter, which is added where there is none, or parts of the model."""
    if config.lora is not None:
        with default_generator(torch.Generator().manual_seed(config.train.seed)):
            add_adapter(model, config.lora)
        return
    if has_adapter(model):
        raise ConfigError(
            "the weights to begin with hold an adapter, but the settings have no lora; add the adapter's, for instance "
            "-s lora.rank=32"
        )
    select_trainable(model, config.stage.trainable)


def build_training_data(config: TrainConfig, folders: Sequence[str], symbols: SpeechSymbols) -> TrainingData:
    """Returns the feature sets of `folders`, mixed as the settings say; raises DataError where they do not fit."""
    weights = config.data.weights or (1,) * len(folders)
    if not folders or len(weights) != len(folders):
        raise ConfigError(f"data.weights has {len(weights)} shares for {len(folders)} data folders; give one each")
    cache = _feature_cache(config.data, len(folders))
    sources = tuple(FeatureSet(folder, cache) for folder in folders)
    video = config.model.video
    data = TrainingData(
        sources=sources,
        clips=bucket_clips(config, sources, weights),
        seed=config.train.seed,
        symbols=symbols,
        caption=CaptionSize(tokens=video.caption_tokens, width=video.caption_width),
        with_video=config.stage.branches == "both",
    )
    data.check()
    for source in sources:
        _check_sizes(source, config.model, data)
    return data


def build_held_out_data(data: TrainingData, folder: str, model: TransformerConfig) -> TrainingData:
    """Returns the clips of `folder`, laid out as those of `data`; raises DataError where they do not fit."""
    source = FeatureSet(folder, data.sources[0].cache)
    clips = data.clips.of_held_out(source)
    held_out = replace(data, sources=(source,), clips=clips)
    held_out.check()
    _check_sizes(source, model, held_out)
    return held_out


def _feature_cache(settings: DataConfig, num_folders: int) -> CacheConfig:
    """Returns what one worker keeps of one folder."""
    default = CacheConfig()
    return CacheConfig(
        memory_bytes=int(settings.memory_gb * 2**30 / num_folders / max(settings.workers, 1)),
        folder=Path(settings.cache_dir).expanduser() if settings.cache_dir else default.folder,
        disk_bytes=int(settings.cache_gb * 2**30),
    )


def _check_sizes(source: FeatureSet, model: TransformerConfig, data: TrainingData) -> None:
    """Raises DataError where features were made for a model of other sizes; all clips of a set are of one model."""
    clip = source.example
    sizes = [("mel bins", clip.mel.shape[1], model.audio.mel_bins)]
    if data.with_video and clip.latents is not None:
        _, patch_rows, patch_columns = model.video.patch
        sizes.append(("latent channels", clip.latents.shape[0], model.video.latent_channels))
        for bucket in data.clips.buckets:
            sizes.append(("latent rows beyond whole tokens", bucket.rows % patch_rows, 0))
            sizes.append(("latent columns beyond whole tokens", bucket.columns % patch_columns, 0))
        if clip.face_mask is not None:
            rows, columns = clip.latents.shape[2:]
            tokens = (rows // patch_rows) * (columns // patch_columns)
            sizes.append(("face mask tokens a latent frame", clip.face_mask.shape[1], tokens))
    for name, given, expected in sizes:
        if given != expected:
            raise DataError(
                f"the features of {source.folder} have {given} {name}, the model expects {expected}; prepare them for "
                "this model, or name the model they were made for"
            )


def fit_mouth_probe(config: TrainConfig, data: TrainingData) -> LinearMouthProbe | None:
    """Returns the probe, fitted on clips of every feature set; None where the stage has no lip-motion loss."""
    if "lip_motion" not in config.stage.losses.used():
        return None
    clips_per_source = -(-MOUTH_PROBE_CLIPS // len(data.sources))
    clips = chain.from_iterable(islice(source.readable_clips(), clips_per_source) for source in data.sources)
    return LinearMouthProbe.fit(clips, data.clips.base)
