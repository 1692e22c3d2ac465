"""Clips of a model for every prompt of a set: what `uniavgen evaluate --generate` measures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from uniavgen.arguments import check_arguments
from uniavgen.artifacts import atomic_file, checksum, record_settings
from uniavgen.errors import ConfigError, MediaError
from uniavgen.evaluation.clip import mask_file
from uniavgen.evaluation.prompts import Prompt, PromptSet
from uniavgen.evaluation.protocol import System
from uniavgen.inference.clip import Clip
from uniavgen.inference.model_spec import ModelSpec
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.prepared_request import PreparedRequest
from uniavgen.inference.request import Request
from uniavgen.inference.resize import resize
from uniavgen.media.audio import read_audio
from uniavgen.media.image import read_image
from uniavgen.media.mux import write_clip
from uniavgen.media.video import read_video
from uniavgen.tasks.given_lengths import half_of_clip
from uniavgen.tasks.table import TASKS, ModalityRole, ReferenceAudio, Task
from uniavgen.timebase import NUM_FRAMES
from uniavgen.workflows.clip_jobs import READ_RATES, SHORT_SIDE_PX, read_voice
from uniavgen.workflows.load import ModelLoader

RECONSTRUCTION = "reconstruction"
"""No task: the prompt's video through the model's codecs and back, the ceiling of what it can generate."""
KINDS = (*(str(task) for task in Task), RECONSTRUCTION)


@dataclass(frozen=True, kw_only=True)
class SetConfig:
    """Which clips are generated for each prompt."""

    kinds: Sequence[str] = (str(Task.JOINT),)
    """Of KINDS."""
    num_frames: int = NUM_FRAMES
    size: tuple[int, int] | None = None
    """Width and height in pixels; None is the shape of the prompt's image at the model's size."""
    seed: int = 0
    """Of the first prompt; every next one adds 1."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SamplingConfig` that differ from the model's defaults."""

    def __post_init__(self) -> None:
        check_arguments(self)


def parse_kinds(text: str) -> list[str]:
    """Returns the kinds of `joint,dubbing`, or the five tasks of `all`; raises ConfigError for other names."""
    if text == "all":
        return [str(task) for task in Task]
    kinds = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ConfigError(f"there is no task '{(unknown or [text])[0]}'; choose among {', '.join(KINDS)} or all")
    return kinds


def generate_set(
    loader: ModelLoader,
    config: SetConfig,
    prompts: PromptSet,
    out: Path,
    on_progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
) -> list[System]:
    """Generates the missing clips in `out/clips`, and returns a system for each kind.

    The model is loaded for the first missing clip whose request it can serve. A prompt that lacks what a task needs, or
    does not fit the model, has its reason in `System.failures`. `on_progress` is called with the name of a system and
    the counts of its finished and of all clips. Raises DataError where the folder holds clips that were
    made with other settings.
    """
    name = loader.system
    tasks = [Task(kind) for kind in config.kinds if kind != RECONSTRUCTION]

    @cache
    def load() -> UniAVGenPipeline:
        # A model that only reconstructs needs no more than the codecs of a joint clip.
        return loader.load_for_tasks(tasks or [Task.JOINT], config.num_frames, config.size, config.sampling)

    lora = loader.lora_settings
    weights = checksum(loader.folder) if loader.is_local else loader.config.model
    sampling = loader.spec.sampling.with_overrides(config.sampling).recorded()
    systems = []
    for kind in config.kinds:
        clips = out / "clips" / name / kind
        settings = {
            "model": name,
            "weights": weights,
            "kind": kind,
            "num_frames": config.num_frames,
            "seed": config.seed,
            **({} if config.size is None else {"size": list(config.size)}),
            **sampling,
            **lora,
        }
        recorded = clips / "settings.json"
        if recorded.is_file():
            record_settings(recorded, settings)
        failures = {}
        for number, prompt in enumerate(prompts.prompts):
            on_progress(f"{name}/{kind}", number, len(prompts.prompts))
            path = clips / f"{prompt.id}.mp4"
            if path.is_file():
                continue
            try:
                if kind == RECONSTRUCTION:
                    source = _read_for_reconstruction(prompt, loader.spec, config.num_frames)
                else:
                    source = loader.prepare(build_request(prompt, Task(kind), config, number))
            except (ConfigError, MediaError) as error:
                failures[prompt.id] = f"it could not be made: {_without_folders(str(error), prompt)}"
                continue
            pipeline = load()
            # Not before a model is loaded, so that one that cannot be leaves nothing.
            record_settings(recorded, settings)
            if isinstance(source, PreparedRequest):
                write_generated(pipeline(source), prompt.id, path)
            else:
                _write_reconstruction(pipeline, source, path, {**settings, "id": prompt.id})
        on_progress(f"{name}/{kind}", len(prompts.prompts), len(prompts.prompts))
        description = "the prompt's video through the model's codecs" if kind == RECONSTRUCTION else f"task {kind}"
        systems.append(
            System(name=f"{name}/{kind}", folder=clips, description=description, failures=failures, settings=settings)
        )
    return systems


def build_request(prompt: Prompt, task: Task, config: SetConfig, number: int) -> Request:
    """Reads the inputs of a task from a prompt, the `number`-th of its set.

    Raises ConfigError where the prompt lacks one and MediaError where one cannot be read.
    """
    spec = TASKS[task]
    inputs: dict[str, Any] = {}
    if spec.video is ModalityRole.GENERATED:
        inputs["image"] = read_image(_required_file(prompt, "image", task))
    else:
        num_given = config.num_frames
        if spec.video is ModalityRole.PREFIX:
            num_given = READ_RATES.frames_in(half_of_clip(READ_RATES.clip(num_given)))
        video = read_video(
            _required_file(prompt, "video", task),
            READ_RATES.fps,
            max_frames=num_given,
            trim=True,
            rate_hz=READ_RATES.sample_rate_hz,
            short_side_px=SHORT_SIDE_PX,
        )
        inputs["video"] = video.frames
        if spec.audio is not ModalityRole.GENERATED:
            inputs["audio"] = video.waveform
    if spec.audio is ModalityRole.GIVEN:
        longest_s = float(READ_RATES.clip(config.num_frames).duration_s)
        path = _required_file(prompt, "audio", task)
        inputs["audio"] = read_audio(path, READ_RATES.sample_rate_hz, max_s=longest_s, trim=True)
    if spec.reference_audio is ReferenceAudio.NEEDED or (
        spec.reference_audio is ReferenceAudio.ALLOWED and prompt.voice
    ):
        inputs["voice"] = read_voice(_required_file(prompt, "voice", task), trim=False)
        inputs["voice_text"] = prompt.voice_text
    return Request(
        task=task,
        speech=prompt.speech,
        caption=prompt.caption,
        num_frames=config.num_frames,
        size=config.size,
        seed=config.seed + number,
        sampling=config.sampling,
        **inputs,
    )


def write_generated(clip: Clip, prompt_id: str, path: Path) -> None:
    """Writes a clip, and the face mask that the model predicts beside it."""
    if clip.face_mask is not None:
        # Before the clip, whose existence says that the prompt is done.
        with atomic_file(mask_file(path)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, face_mask=clip.face_mask.astype(np.float16))
    settings = {**clip.settings, "id": prompt_id}
    write_clip(path, clip.frames, clip.fps, clip.waveform, clip.sample_rate_hz, settings)


def _read_for_reconstruction(prompt: Prompt, model: ModelSpec, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads the frames of a prompt's video, at the model's size, and its waveform.

    Raises ConfigError where the prompt has no video and MediaError where it cannot be used.
    """
    base = model.timebase
    source = _required_file(prompt, "video", RECONSTRUCTION)
    video = read_video(source, base.fps, max_frames=num_frames, trim=True, rate_hz=base.sample_rate_hz)
    if video.waveform is None:
        raise MediaError(f"{source.name} has no sound")
    return resize(video.frames, model.resize_rule), video.waveform


def _write_reconstruction(
    pipeline: UniAVGenPipeline, source: tuple[np.ndarray, np.ndarray], path: Path, settings: Mapping[str, Any]
) -> None:
    frames, waveform = pipeline.reconstruct(*source)
    base = pipeline.spec.timebase
    write_clip(path, frames, base.fps, waveform, base.sample_rate_hz, settings)


def _required_file(prompt: Prompt, name: str, task: str) -> Path:
    path = getattr(prompt, name)
    if path is None:
        raise ConfigError(f"the prompt has no {name}, which '{task}' needs")
    return path


def _without_folders(text: str, prompt: Prompt) -> str:
    """Returns an error's text with the names of the prompt's files only, so that reports hold no paths."""
    for file in prompt.files().values():
        text = text.replace(str(file), file.name)
    return text
