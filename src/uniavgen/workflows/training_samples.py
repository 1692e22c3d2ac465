"""Clips of a model under training: the same requests at every sampling, of every task, as files, measured.

`OUT/samples/step-00001000/TASK/ID.mp4`, with `report.html` beside the tasks where metrics are chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import torch
from torch import nn

from uniavgen.artifacts import path_exists
from uniavgen.codecs.video_vae import VideoCodec
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext, broadcast_object
from uniavgen.errors import ConfigError
from uniavgen.evaluation.prompts import Prompt, PromptSet, read_prompts, write_prompts
from uniavgen.evaluation.protocol import System
from uniavgen.evaluation.registry import select_metrics
from uniavgen.evaluation.sets import SET_FILE
from uniavgen.inference.conditions import Conditions
from uniavgen.inference.offload import OFFLOAD_DEVICE, OffloadConfig
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeAndCrop
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.perception.weights import WeightResolver
from uniavgen.tasks.table import TASKS, ModalityRole, ReferenceAudio, Task
from uniavgen.training.callbacks import SampledClip, SampledClips
from uniavgen.training.sharding import is_sharded
from uniavgen.workflows.evaluate import NO_PUBLISHED_ROWS, EvaluationConfig, evaluate
from uniavgen.workflows.generate_set import SetConfig, build_request, write_generated
from uniavgen.workflows.load_codecs import ModelCodecs, load_codecs
from uniavgen.workflows.prompt_sets import PromptSource, make_prompt_set

NUM_PROMPTS: Final = 2
NUM_STEPS: Final = 20


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Which clips are sampled during training, and what is measured of them."""

    prompts: Path
    """A prompt set, or a folder of shards, whose first samples become prompts."""
    codecs: Path
    """Model folder of the codecs."""
    tasks: Sequence[Task] = tuple(Task)
    num_frames: int = 81
    latent_grid: tuple[int, int]
    """Latent rows and columns of the clips, as of the training data."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Fields of `SamplingConfig`, besides the number of steps."""
    metrics: Sequence[str] = ()
    """Names or groups of `uniavgen evaluate`; none if empty."""
    assets: Path | None = None
    """Folder of the metrics' networks."""


class TrainingSampler:
    """A `training.callbacks.ClipSampler`: samples every prompt in every task that it has the inputs of.

    Prompts are read and encoded once. All processes of a run sample together, since each holds a part of the weights;
    the main one decodes and writes.
    """

    def __init__(self, settings: SampleSettings, out: Path, context: ParallelContext = SINGLE_PROCESS) -> None:
        """Raises DataError, MediaError, CheckpointError or ConfigError for what cannot be sampled or measured."""
        self.settings = settings
        self.folder = out / "samples"
        self.context = context
        if settings.metrics:
            # Only to refuse names and networks before training starts.
            select_metrics(settings.metrics, WeightResolver(assets=settings.assets))
        self._encoded: dict[tuple[Task, str], Conditions] | None = None
        self.prompts = self._read_prompts()
        self.requests = dict(self._requests())
        if not self.requests:
            raise ConfigError(
                f"no prompt of {settings.prompts} has what a task needs; give each an image, a speech and a video"
            )

    def __call__(self, model: nn.Module, step: int) -> SampledClips:
        """Samples, writes and measures the clips of a step."""
        assert isinstance(model, UniAVGenTransformer)
        pipeline = self._pipeline(model)
        sampled = {name: pipeline.sample(conditions) for name, conditions in self._conditions(pipeline).items()}
        if not self.context.is_main:
            return SampledClips()
        folder = self.folder / f"step-{step:08d}"
        clips = []
        with _lent(model.device, self._codecs.vae, self._codecs.vocoder):
            for (task, prompt_id), latents in sampled.items():
                clip = pipeline.decode(latents)
                path = folder / task / f"{prompt_id}.mp4"
                write_generated(clip, prompt_id, path)
                clips.append(
                    SampledClip(
                        name=f"{task}/{prompt_id}",
                        frames=clip.frames,
                        fps=clip.fps,
                        mel=clip.mel,
                        waveform=clip.waveform,
                        sample_rate_hz=clip.sample_rate_hz,
                    )
                )
        return SampledClips(clips=clips, scores=self._measure(folder) if self.settings.metrics else {})

    def _read_prompts(self) -> PromptSet:
        """Returns the first prompts of the set, those of shards after they were written as files."""
        file = self.settings.prompts
        if path_exists(file) and file.is_dir():
            folder = self.folder / "prompts"
            if self.context.is_main:
                make_prompt_set(PromptSource.SHARDS, folder, file, NUM_PROMPTS)
            # The others wait for the files.
            broadcast_object(None, self.context)
            file = folder / SET_FILE
        return PromptSet(prompts=read_prompts(file).prompts[:NUM_PROMPTS])

    def _requests(self) -> Iterator[tuple[tuple[Task, str], Request]]:
        config = SetConfig(num_frames=self.settings.num_frames, sampling={**self.settings.sampling, "steps": NUM_STEPS})
        for task in self.settings.tasks:
            for number, prompt in enumerate(self.prompts.prompts):
                if _has_inputs(prompt, task):
                    yield (task, prompt.id), build_request(prompt, task, config, number)

    @cached_property
    def _codecs(self) -> ModelCodecs:
        return load_codecs(self.settings.codecs)

    def _pipeline(self, model: UniAVGenTransformer) -> UniAVGenPipeline:
        stride, (rows, columns) = VideoCodec(self._codecs.vae).spatial_stride, self.settings.latent_grid
        pipeline = self._codecs.build_pipeline(model, ResizeAndCrop(height=stride * rows, width=stride * columns))
        # Blocks of a sharded model have their weights only while they run.
        pipeline.offload = OffloadConfig(device=model.device, text_kv_fits=not is_sharded(model))
        return pipeline

    def _conditions(self, pipeline: UniAVGenPipeline) -> dict[tuple[Task, str], Conditions]:
        """Returns the encoded requests; the encoders are on the device for the first call only."""
        if self._encoded is None:
            prepared = {name: pipeline.prepare(request) for name, request in self.requests.items()}
            with _lent(pipeline.transformer.device, self._codecs.vae, self._codecs.text_encoder):
                self._encoded = {name: pipeline.encode(each) for name, each in prepared.items()}
        return self._encoded

    def _measure(self, folder: Path) -> dict[str, float]:
        """Measures the clips of a step, writes the report beside them, and returns means by `TASK/COLUMN`."""
        write_prompts(folder / SET_FILE, self.prompts.prompts)
        tasks = dict.fromkeys(task for task, _ in self.requests)
        report = evaluate(
            EvaluationConfig(
                prompts=folder / SET_FILE,
                out=folder,
                systems=[System(name=task, folder=folder / task) for task in tasks],
                metrics=self.settings.metrics,
                assets=self.settings.assets,
                published=NO_PUBLISHED_ROWS,
            )
        )
        means = {f"{system}/{column}": estimate.mean for (system, column), estimate in report.estimates.items()}
        return {name: mean for name, mean in means.items() if mean is not None}


def _has_inputs(prompt: Prompt, task: Task) -> bool:
    """Returns whether a prompt has what a task needs."""
    spec = TASKS[task]
    needed = [prompt.image if spec.video is ModalityRole.GENERATED else prompt.video]
    if spec.audio is ModalityRole.GIVEN:
        needed.append(prompt.audio)
    elif not prompt.speech.strip():
        return False
    if spec.reference_audio is ReferenceAudio.NEEDED:
        needed.append(prompt.voice)
    return None not in needed


@contextmanager
def _lent(device: torch.device, *codecs: nn.Module | None) -> Iterator[None]:
    """Keeps codecs on the device of the model while the context is open, and on the CPU otherwise."""
    present = [codec for codec in codecs if codec is not None]
    for codec in present:
        codec.to(device)
    try:
        yield
    finally:
        for codec in present:
            codec.to(OFFLOAD_DEVICE)
