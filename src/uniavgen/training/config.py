"""Settings of a training run. A stage is data: what is computed and trained, tasks, loss weights, schedules."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from annotated_types import Le

from uniavgen.config import Config, Count, Factor, NonNegative, Positive, PositiveInt, Probability, Seed, Width
from uniavgen.errors import ConfigError
from uniavgen.flow.guidance import Dropout
from uniavgen.models.config import TransformerConfig
from uniavgen.models.parts import Part
from uniavgen.tasks.mixture import MixtureConfig
from uniavgen.tasks.table import TASKS, ModalityRole
from uniavgen.timebase import ClipTiming, Timebase
from uniavgen.training.loss_weights import LossWeights
from uniavgen.training.optimizer import OptimConfig

_SIZE: Final = re.compile(r"[0-9]{1,5}x[0-9]{1,5}")


@dataclass(frozen=True, kw_only=True)
class StageConfig(Config):
    """Trained parameters, tasks and losses of a stage."""

    branches: Literal["audio", "both"] = "both"
    """Branches that are computed; the audio branch alone needs no video in the data."""
    trainable: tuple[str, ...] = ("*",)
    """Patterns (as in file names) of the parameters that are trained, or names of parts (`models.parts.Part`)."""
    tasks: MixtureConfig = field(default_factory=MixtureConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    dropout: Dropout = field(default_factory=Dropout)
    flow_time: Literal["shared", "independent"] = "shared"
    """Whether both modalities of a clip have the same t [paper; Harmony; Ovi], or a t each."""
    shift: Positive = 5.0
    """t is uniform, then shifted as in sampling. [Harmony; Ovi]"""
    audio_shift: Positive | None = None
    """Shift of the audio's t; None for `shift`."""

    def __post_init__(self) -> None:
        trained = [task for task, ratio in self.tasks.ratios.items() if ratio > 0]
        needs_video = [task.value for task in trained if ModalityRole.GIVEN in (TASKS[task].video, TASKS[task].audio)]
        if self.branches == "audio" and needs_video:
            raise ConfigError(
                f"the audio branch alone cannot be trained on {', '.join(needs_video)}; set their ratio to 0"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """How the features are read; their folders are options of the command line."""

    num_frames: PositiveInt = 81
    """Pixel frames of a training clip, 1 + 4n; longer clips are cut, with their transcript."""
    lengths: tuple[PositiveInt, ...] | Literal["all"] = ()
    """Pixel frames of the buckets, each 1 + 4n, in place of `num_frames`: a clip is cut to the longest that it fills.
    `all` for those of the data."""
    sizes: tuple[str, ...] = ()
    """Picture sizes of the buckets, WIDTHxHEIGHT in pixels; all that the data has where empty."""
    latent_stride: Width = 16
    """Pixels along a side of a cell of the latents, by which `sizes` are counted: the video autoencoder's."""
    weights: tuple[Annotated[PositiveInt, Le(1000)], ...] = ()
    """Shares of the data folders in their order; equal where empty."""
    memory_gb: NonNegative = 4.0
    """Features up to this size are kept in the memory of each process of the run; its workers share it out."""
    cache_dir: str = ""
    """Folder on the local disk for copies of what lies in a store; ~/.cache/uniavgen/features where empty."""
    cache_gb: NonNegative = 20.0
    """Clips of a store up to this size are kept in `cache_dir`, for all processes of a machine."""
    workers: Annotated[Count, Le(256)] = 0
    """Processes that read ahead; 0 reads in the training process, which is best where features fit into memory."""
    prefetch: Annotated[PositiveInt, Le(64)] = 2
    """Batches that each worker reads ahead."""
    max_damaged_share: Probability = 0.05
    """Damaged clips are replaced; a run ends where more than this share of the clips that it has read is damaged."""

    def __post_init__(self) -> None:
        for size in self.sizes:
            sides = [int(side) for side in size.split("x")] if _SIZE.fullmatch(size) else []
            if not sides or min(sides) < 1 or any(side % self.latent_stride for side in sides):
                raise ConfigError(
                    f"a picture size is WIDTHxHEIGHT in multiples of latent_stride = {self.latent_stride} px, such as "
                    f"736x736, got '{size}'"
                )

    def timings(self, base: Timebase) -> tuple[ClipTiming, ...]:
        """Returns the lengths of the buckets, the shortest first; empty for those of the data."""
        if self.lengths == "all":
            return ()
        return tuple(base.clip(length) for length in sorted({*self.lengths}) or (self.num_frames,))

    @property
    def latent_sizes(self) -> tuple[tuple[int, int], ...]:
        """Returns rows and columns of the latents of the buckets, rising; empty for those of the data."""
        sides = [size.split("x") for size in self.sizes]
        return tuple(sorted({(int(h) // self.latent_stride, int(w) // self.latent_stride) for w, h in sides}))


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """Length, batch, precision and outputs of a run."""

    steps: PositiveInt
    batch_size: Width
    """Clips a step, over all processes; at most as many as the data has."""
    batch_tokens: PositiveInt | None = None
    """Video and audio tokens a step, over all processes, in place of `batch_size`: a step then has as many clips of its
    bucket as fit."""
    batch_multiple: Width = 8
    """What `batch_tokens` allows is rounded down to a multiple of this, which the processes can share. It is a setting,
    so that a run is the same on any number of them."""
    seed: Seed = 0
    ema: Factor = 0.999
    """Decay of the averaged weights, which are exported and sampled from; 0 for no average."""
    micro_batch_size: Width | None = None
    """Clips that a process takes through the model at once; None for its whole share of the batch. Fewer take less
    memory, and the gradients of several are summed: the same losses and steps."""
    activation_checkpointing: Count = 0
    """Every how many blocks keep no activations and compute them again in the backward pass: 0 for none, 1 for all, 2
    for every other one. Less memory against up to a third more time, and the same numbers."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the forward pass under autocast; weights, moments and losses stay float32."""
    compile: bool = False
    """Blocks go through `torch.compile`: a minute once, then faster steps."""
    checkpoint_every: PositiveInt = 500
    """Steps between checkpoints; there is one after the last step too."""
    checkpoint_minutes: NonNegative = 0.0
    """Minutes between checkpoints, beside those of `checkpoint_every`; 0 for none."""
    keep_checkpoints: PositiveInt = 2
    log_every: PositiveInt = 10
    sample_every: Count = 0
    """Steps between sampled clips, from step 0 on, in OUT/samples and in TensorBoard; 0 for none."""

    @property
    def shared_clips(self) -> int:
        """Returns the number of clips that processes must be able to share evenly."""
        return self.batch_size if self.batch_tokens is None else self.batch_multiple

    def clips_of(self, num_tokens: int) -> int:
        """Returns the clips a step of a bucket whose clips have `num_tokens` tokens. Raises ConfigError for none."""
        if self.batch_tokens is None:
            return self.batch_size
        num_clips = self.batch_tokens // num_tokens // self.batch_multiple * self.batch_multiple
        if not num_clips:
            raise ConfigError(
                f"train.batch_tokens is {self.batch_tokens}, but {self.batch_multiple} clips (train.batch_multiple) of "
                f"{num_tokens} tokens have {self.batch_multiple * num_tokens}; raise it, or leave that bucket out"
            )
        return num_clips


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(Config):
    """What is measured of held-out data during training; see `training.validation` and `workflows.training_samples`."""

    every: Count = 0
    """Steps between held-out losses, from step 0 on; 0 for none."""
    num_clips: PositiveInt = 16
    """Clips of each held-out loss, the first of the held-out features."""
    num_bands: PositiveInt = 4
    """Equal bands of the flow time, from clean to noise, of which each has a loss of its own."""
    metrics: tuple[str, ...] = ()
    """Metrics of `uniavgen evaluate` on the sampled clips, such as wer_base, sync and speaker; none if empty."""


@dataclass(frozen=True, kw_only=True)
class ShardingConfig(Config):
    """How several processes hold the model. One process holds all of it, whatever is set here."""

    shard_degree: Count = 0
    """Processes that share one copy of weights, gradients, moments and averages; 1 gives each process a copy of its
    own, 0 chooses (`sharding.shard_degree`)."""
    reshard_after_forward: bool = True
    """Blocks give their weights back between forward and backward pass: the memory of a gathered model against a third
    exchange of weights a step."""
    prefetch_blocks: Annotated[Count, Le(8)] = 1
    """Blocks whose weights are gathered ahead of the one that is computed."""
    timeout_s: Positive = 600.0
    """How long a process waits for the others before the run ends."""


@dataclass(frozen=True, kw_only=True)
class LoRAConfig(Config):
    """A low-rank adapter that is trained in place of the model, which stays as it is (`lora.add_adapter`). [ours]"""

    rank: Width = 32
    alpha: Positive = 32.0
    """The adapter's update is multiplied by alpha / rank."""
    targets: tuple[Part, ...] = (Part.VIDEO, Part.AUDIO, Part.A2V, Part.V2A)
    """Parts whose linear layers are adapted."""
    base: Literal["fp32", "bf16", "fp8", "int8"] = "fp32"
    """How the model below is stored; fp8 and int8 need torchao, and are for one process."""

    def __post_init__(self) -> None:
        if not self.targets or len({*self.targets}) < len(self.targets):
            raise ConfigError(
                f"lora.targets is [{', '.join(self.targets)}], expected each part at most once, and at least one"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """One run of one stage."""

    model: TransformerConfig
    """Settings of the transformer, or the name of the preset or YAML file that holds them."""
    stage: StageConfig
    train: RunConfig
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    lora: LoRAConfig | None = None
    """Trains a low-rank adapter and nothing else; None trains the model itself."""

    def __post_init__(self) -> None:
        if self.lora is None:
            return
        if self.stage.trainable != ("*",):
            raise ConfigError(
                f"stage.trainable is {list(self.stage.trainable)}, but with lora only the adapter is trained and "
                "saved; choose its parts by lora.targets and leave stage.trainable at ['*']"
            )
        if self.lora.base != "fp32" and self.train.precision != "bf16":
            raise ConfigError(
                f"lora.base {self.lora.base} computes in bf16, but train.precision is {self.train.precision}; set "
                "train.precision=bf16, or lora.base=fp32"
            )
