"""What a training run takes, predicted from its settings alone: memory by kind, clips a second, days, bytes on disk."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uniavgen.checkpoint.conversion import readable
from uniavgen.data.buckets import Bucket
from uniavgen.errors import ConfigError
from uniavgen.inference.memory import ACTIVATIONS_SLACK, GIB, RESERVE, WEIGHTS_SLACK
from uniavgen.models.config import TransformerConfig
from uniavgen.training.config import TrainConfig
from uniavgen.training.memory import TrainingMemory, TrainingModel

H100_FLOPS = 989e12
"""Dense bf16 operations per second of an H100 or H200. [NVIDIA]"""
UTILISATION = 0.4
"""Share of the peak that training is assumed to reach, recomputed operations included. [ours, not measured]"""
DEFAULT_SIZES_PX = ((736, 736), (1280, 736))
"""Width and height of the clips that are planned where none is named: the release's sizes for a square and a wide
picture. [release]"""
SECONDS_A_DAY = 86400


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPUs of a run, which are alike."""

    gpus: int = 1
    memory: int | None = None
    """Bytes of each GPU; None where it is not known."""
    flops: float = H100_FLOPS
    """Operations per second of each GPU at its peak."""
    utilisation: float = UTILISATION


@dataclass(frozen=True, kw_only=True)
class BucketPlan:
    """What training on the clips of a bucket takes."""

    bucket: Bucket
    name: str
    """Size and length for people."""
    clips: int
    """Clips a step, of all GPUs together."""
    clips_at_once: int
    """Clips that go through the model at once on each GPU."""
    memory: TrainingMemory
    """Of the task that needs the most."""
    flops_per_clip: float
    """Executed operations, the mean over the tasks by their ratios."""
    clips_per_s: float
    """Of all GPUs together."""
    feature_bytes: int
    """Bytes of the features of a clip."""

    @property
    def required(self) -> float:
        """Bytes that a GPU must have: what tensors take, scratch memory, fragmentation and the context."""
        activations = self.memory.activations
        return (self.memory.total - activations) * (1 + WEIGHTS_SLACK) + activations * (1 + ACTIVATIONS_SLACK) + RESERVE


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a run takes, for every bucket as if all clips were of it."""

    machine: Machine
    steps: int
    shard_degree: int
    """GPUs that share one copy of the model."""
    trained_parameters: int
    checkpoint_bytes: int
    buckets: Sequence[BucketPlan]

    def days(self, bucket: BucketPlan) -> float:
        """Returns the length of the run in days, without reading data, checkpoints and sampled clips."""
        return self.steps * bucket.clips / bucket.clips_per_s / SECONDS_A_DAY

    def describe(self) -> str:
        """Returns a line on the run."""
        memory = "" if self.machine.memory is None else f" of {self.machine.memory / GIB:.0f} GB"
        return (
            f"{self.steps} steps, {self.trained_parameters / 1e6:.1f} million parameters are trained; "
            f"{self.machine.gpus} GPU{memory}, {self.shard_degree} to a copy of the model; a checkpoint has "
            f"{readable(self.checkpoint_bytes)}; predicted, not measured"
        )

    def table(self) -> list[str]:
        """Returns lines that show every bucket: GB on a GPU by kind, then speed."""
        lines = []
        for bucket in self.buckets:
            fits = {True: "fits", False: "does not fit", None: ""}[self.fits(bucket)]
            kinds = ", ".join(f"{name} {size / GIB:.1f}" for name, size in asdict(bucket.memory).items() if size)
            data = bucket.clips_per_s * bucket.feature_bytes / 1e6
            lines += [
                f"{bucket.name}, {bucket.clips} clips a step, {bucket.clips_at_once} at once: "
                f"{bucket.required / GIB:.1f} GB a GPU {fits}".rstrip(),
                f"  GB: {kinds}; the rest for CUDA and fragmentation",
                f"  {bucket.flops_per_clip / 1e12:.3g} TFLOP a clip, {bucket.clips_per_s:.2f} clips/s at "
                f"{self.machine.utilisation:.0%} of {self.machine.flops / 1e12:.0f} TFLOP/s, "
                f"{self.days(bucket):.2f} days; features at {data:.0f} MB/s",
            ]
        return lines

    def as_data(self) -> dict[str, Any]:
        """Returns the plan as JSON data, in bytes and operations."""
        return {
            "gpus": self.machine.gpus,
            "vram": self.machine.memory,
            "peak_flops_per_s": self.machine.flops,
            "utilisation": self.machine.utilisation,
            "steps": self.steps,
            "shard_degree": self.shard_degree,
            "trained_parameters": self.trained_parameters,
            "checkpoint_bytes": self.checkpoint_bytes,
            "buckets": [
                {
                    "bucket": bucket.name,
                    "clips": bucket.clips,
                    "clips_at_once": bucket.clips_at_once,
                    "memory": asdict(bucket.memory),
                    "total": bucket.memory.total,
                    "required": round(bucket.required),
                    "fits": self.fits(bucket),
                    "flops_per_clip": round(bucket.flops_per_clip),
                    "clips_per_s": round(bucket.clips_per_s, 4),
                    "days": round(self.days(bucket), 3),
                    "feature_bytes": bucket.feature_bytes,
                }
                for bucket in self.buckets
            ],
        }

    def fits(self, bucket: BucketPlan) -> bool | None:
        """Whether a bucket fits; None where the memory of the GPUs is not known."""
        return None if self.machine.memory is None else bucket.required <= self.machine.memory


def plan_training(config: TrainConfig, buckets: Iterable[Bucket], machine: Machine) -> TrainingPlan:
    """Plans a run. Raises ConfigError where settings do not fit the model or the processes."""
    if config.train.shared_clips % machine.gpus:
        raise ConfigError(
            f"{machine.gpus} GPUs cannot share a batch of {config.train.shared_clips} clips evenly; set "
            "train.batch_size to a multiple"
        )
    model = TrainingModel(config, machine.gpus)
    return TrainingPlan(
        machine=machine,
        steps=config.train.steps,
        shard_degree=model.degree,
        trained_parameters=model.trained,
        checkpoint_bytes=model.checkpoint_bytes,
        buckets=[_plan_bucket(model, bucket, machine) for bucket in buckets],
    )


def planned_buckets(config: TrainConfig, sizes_px: Sequence[tuple[int, int]] = ()) -> list[Bucket]:
    """Returns the buckets of some widths and heights, else of the settings, else of the release's sizes."""
    base, stride = config.model.timebase, config.data.latent_stride
    sizes = [(height // stride, width // stride) for width, height in sizes_px] or config.data.latent_sizes
    if config.stage.branches == "audio":
        sizes = [(0, 0)]
    elif not sizes:
        sizes = [(height // stride, width // stride) for width, height in DEFAULT_SIZES_PX]
    timings = config.data.timings(base) or (base.clip(config.data.num_frames),)
    return [Bucket(timing=timing, rows=rows, columns=columns) for rows, columns in sizes for timing in timings]


def check_training_fits(config: TrainConfig, buckets: Iterable[Bucket], machine: Machine) -> None:
    """Raises ConfigError where a step of the largest bucket needs more memory than a GPU has."""

    def tokens_at_once(bucket: Bucket) -> int:
        tokens = bucket.num_tokens(config.model.video.patch)
        clips = config.train.clips_of(tokens) // machine.gpus
        return tokens * min(config.train.micro_batch_size or clips, clips)

    plan = plan_training(config, [max(buckets, key=tokens_at_once)], machine)
    if plan.fits(plan.buckets[0]) is False:
        raise ConfigError(_shortage(config, plan, plan.buckets[0]))


def _shortage(config: TrainConfig, plan: TrainingPlan, bucket: BucketPlan) -> str:
    ways = ["leave that size out", "train on more GPUs"]
    if config.train.activation_checkpointing != 1:
        ways.insert(0, "set train.activation_checkpointing=1")
    if bucket.clips_at_once > 1:
        ways.insert(0, "lower train.micro_batch_size")
    memory = (plan.machine.memory or 0) / GIB
    return (
        f"clips of {bucket.name} need {bucket.required / GIB:.1f} GB of each GPU, {bucket.clips_at_once} at a time, "
        f"and there are {memory:.1f}; {', or '.join(ways)}"
    )


def _plan_bucket(model: TrainingModel, bucket: Bucket, machine: Machine) -> BucketPlan:
    config = model.config
    clips = config.train.clips_of(bucket.num_tokens(config.model.video.patch))
    on_gpu = clips // machine.gpus
    at_once = model.micro_clips(on_gpu)
    ratios = {task: ratio for task, ratio in config.stage.tasks.ratios.items() if ratio > 0}
    counts = {task: model.count(bucket, on_gpu, task) for task in ratios}
    flops = sum(ratio * counts[task].flops for task, ratio in ratios.items()) / at_once / sum(ratios.values())
    return BucketPlan(
        bucket=bucket,
        name=bucket.name(config.data.latent_stride),
        clips=clips,
        clips_at_once=at_once,
        memory=model.memory(max(counts.values(), key=lambda count: count.peak)),
        flops_per_clip=flops,
        clips_per_s=machine.gpus * machine.flops * machine.utilisation / flops,
        feature_bytes=_feature_bytes(config.model, bucket, config.stage.branches == "both"),
    )


def _feature_bytes(model: TransformerConfig, bucket: Bucket, with_video: bool) -> int:
    """Returns the bytes of a clip's features, in float16, with the longest caption."""
    mel = bucket.timing.num_audio_tokens * model.audio.mel_bins
    latents = model.video.latent_channels * bucket.timing.num_latent_frames * bucket.rows * bucket.columns
    caption = model.video.caption_tokens * model.video.caption_width if with_video else 0
    return 2 * (mel + latents + caption)
