"""Puts a run together out of its settings: data, model, optimiser, step. What it returns is handed to `loop.train`."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from uniavgen.config import dump, load
from uniavgen.data.dataset import Batch, CaptionSize, TrainingData
from uniavgen.data.features import FeatureSet
from uniavgen.errors import ConfigError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.kernels import AttentionKernel, compile_blocks, use_attention
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.callbacks import CheckpointCallback
from uniavgen.training.config import TrainConfig
from uniavgen.training.dataloader import StepDataset
from uniavgen.training.ema import EMA
from uniavgen.training.loop import StepFunction
from uniavgen.training.losses import Losses
from uniavgen.training.mouth_probe import LinearMouthProbe
from uniavgen.training.optimizer import build_optimizer, freeze_others
from uniavgen.training.parallel import SINGLE, World
from uniavgen.training.randomness import StepRandomness
from uniavgen.training.state import TrainState
from uniavgen.training.step import step_losses

MOUTH_PROBE_CLIPS = 512
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that `loop.train` takes."""

    config: TrainConfig
    state: TrainState
    dataset: StepDataset
    step_function: StepFunction
    checkpoint_callback: CheckpointCallback


def model_settings(config: TrainConfig) -> TransformerConfig:
    """Sizes of the transformer that a run trains."""
    return load(TransformerConfig, [config.model])


def training_data(
    config: TrainConfig, settings: TransformerConfig, folders: Sequence[str], symbols: Callable[[str], Sequence[int]]
) -> TrainingData:
    """The feature sets of `folders`, mixed as the settings say."""
    weights = config.data.weights or (1,) * len(folders)
    if not folders or len(weights) != len(folders):
        raise ConfigError(f"data.weights has {len(weights)} shares for {len(folders)} data folders; give one each")
    budget = int(config.data.memory_gb * 2**30 / len(folders))
    data = TrainingData(
        sources=tuple(FeatureSet(folder, budget) for folder in folders),
        weights=tuple(weights),
        seed=config.train.seed,
        timing=settings.timebase.clip(config.data.num_frames),
        symbols=symbols,
        caption=CaptionSize(tokens=settings.video.caption_tokens, width=settings.video.caption_width),
        with_video=config.stage.branches == "both",
    )
    data.check()
    return data


def build_run(
    config: TrainConfig,
    model: UniAVGenTransformer,
    data: TrainingData,
    out: Path,
    device: torch.device,
    world: World = SINGLE,
) -> Run:
    """A run at step 0 that trains `model`, which is moved to `device`."""
    freeze_others(model, config.stage.trainable)
    model.to(device)
    if device.type == "cpu":
        use_attention(model, AttentionKernel.MATH)  # The fused kernel's backward pass takes twice as long on a CPU.
    if config.train.compile:
        compile_blocks(model)
    state = TrainState(
        model=model,
        optimizer=build_optimizer(model, config.optim),
        ema=EMA(model, config.train.ema) if config.train.ema else None,
    )
    settings = {"train": dump(config), "transformer": dump(model.settings)}
    return Run(
        config=config,
        state=state,
        dataset=StepDataset(
            data=data,
            mixture=config.stage.tasks,
            seed=config.train.seed,
            batch_size=config.train.batch_size,
            world=world,
        ),
        step_function=step_function(config, model, device, world, fit_mouth_probe(config, data)),
        checkpoint_callback=CheckpointCallback(
            folder=out / "checkpoints",
            settings=settings,
            every=config.train.checkpoint_every,
            keep=config.train.keep_checkpoints,
        ),
    )


def fit_mouth_probe(config: TrainConfig, data: TrainingData) -> LinearMouthProbe | None:
    """Fitted on clips of every feature set; None where the stage has no lip-motion loss."""
    if not config.stage.losses.lip_motion:
        return None
    each = -(-MOUTH_PROBE_CLIPS // len(data.sources))
    clips = (source[i] for source in data.sources for i in range(min(each, len(source))))
    return LinearMouthProbe.fit(clips, data.timing.base)


def step_function(
    config: TrainConfig, model: UniAVGenTransformer, device: torch.device, world: World, lips: LinearMouthProbe | None
) -> StepFunction:
    """Batch and step to losses, in the run's precision."""
    dtype = PRECISIONS[config.train.precision]

    def losses(batch: Batch, step: int) -> Losses:
        randomness = StepRandomness(seed=config.train.seed, step=step, rank=world.rank)
        precision = nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
        with precision:
            return step_losses(model, batch.to(device), randomness, config.stage, lips)

    return losses
