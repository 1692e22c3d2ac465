"""Clips of a model for every prompt of a set: what `uniavgen evaluate --generate` measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniavgen.apps.cli.making import SHORT_SIDE_PX, read_voice
from uniavgen.artifacts import atomic_file, checksum, record_settings
from uniavgen.config import dump
from uniavgen.errors import ConfigError, MediaError
from uniavgen.evaluation.clip import mask_file
from uniavgen.evaluation.prompts import Prompt, PromptSet
from uniavgen.evaluation.protocol import System
from uniavgen.media.audio import read_audio
from uniavgen.media.image import read_image
from uniavgen.media.video import read_video
from uniavgen.tasks.table import TASKS, Part, Reference, Task

if TYPE_CHECKING:
    import numpy as np

    from uniavgen.inference.pipeline import UniAVGenPipeline
    from uniavgen.inference.request import Request

RECONSTRUCTION = "reconstruction"
"""No task: the prompt's video through the model's codecs and back, the ceiling of what it can make."""
KINDS = (*(str(task) for task in Task), RECONSTRUCTION)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be made, by which model."""

    model: str
    kinds: Sequence[str]
    num_frames: int
    seed: int
    device: str
    options: Mapping[str, Any]
    """steps, guidance and their like, where asked for."""


def parse_kinds(text: str) -> list[str]:
    """`joint,dubbing` or `all`, the five tasks; ConfigError for other names."""
    kinds = (
        [str(task) for task in Task] if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    )
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ConfigError(f"there is no task '{(unknown or [text])[0]}'; choose among {', '.join(KINDS)} or all")
    return kinds


def generate(order: Order, prompts: PromptSet, out: Path) -> list[System]:
    """Make what is missing in `out/clips`, one system a kind; a prompt that lacks what a task needs gets a reason.

    DataError where the folder holds clips made with other settings.
    """
    from tqdm import tqdm

    from uniavgen.apps.cli.models import check_model, load

    folder = check_model(order.model, order.device)
    name = Path(order.model).name
    systems = []
    pipeline: UniAVGenPipeline | None = None
    plans = {kind: out / "clips" / name / kind for kind in order.kinds}
    for kind, clips in plans.items():
        if pipeline is None:
            pipeline = load(order.model, folder, order.device)
        settings = {
            "model": name,
            "weights": order.model if folder is None else checksum(folder),
            "kind": kind,
            "num_frames": order.num_frames,
            "seed": order.seed,
            **dump(pipeline.sampling.with_overrides(order.options)),
        }
        record_settings(clips / "settings.json", settings)
        unmade = {}
        for number, prompt in enumerate(tqdm(prompts.prompts, desc=f"{name}/{kind}", unit="clip")):
            try:
                _make(pipeline, order, kind, prompt, order.seed + number, clips / f"{prompt.id}.mp4", settings)
            except (ConfigError, MediaError) as error:
                unmade[prompt.id] = f"it could not be made: {_without_folders(str(error), prompt)}"
        systems.append(
            System(name=f"{name}/{kind}", folder=clips, description=_said(kind), unmade=unmade, settings=settings)
        )
    return systems


def _without_folders(text: str, prompt: Prompt) -> str:
    for file in prompt.files().values():
        text = text.replace(str(file), file.name)
    return text


def _said(kind: str) -> str:
    return "the prompt's video through the model's codecs" if kind == RECONSTRUCTION else f"task {kind}"


def _make(
    pipeline: "UniAVGenPipeline", order: Order, kind: str, prompt: Prompt, seed: int, path: Path, settings: Mapping
) -> None:
    import numpy as np

    from uniavgen.media.mux import write_clip

    if path.is_file():
        return
    base = pipeline.transformer.settings.timebase
    if kind == RECONSTRUCTION:
        frames, sound = _reconstructed(pipeline, prompt, order.num_frames)
        write_clip(path, frames, base.fps, sound, base.sample_rate_hz, {**settings, "id": prompt.id})
        return
    clip = pipeline(_request(prompt, Task(kind), order, seed))
    if clip.face_mask is not None:
        # Before the clip, whose being there says that it is done.
        with atomic_file(mask_file(path)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, face_mask=clip.face_mask.astype(np.float16))
    write_clip(path, clip.frames, clip.fps, clip.waveform, clip.sample_rate_hz, {**clip.settings, "id": prompt.id})


def _request(prompt: Prompt, task: Task, order: Order, seed: int) -> "Request":
    """What the task takes of a prompt; ConfigError where it lacks something."""
    from uniavgen.inference.request import Request
    from uniavgen.timebase import Timebase

    base, spec = Timebase(), TASKS[task]
    given: dict[str, Any] = {}
    if spec.video is Part.GENERATED:
        given["image"] = read_image(_needed(prompt, "image", task))
    else:
        kept = order.num_frames
        if spec.video is Part.PREFIX:
            # The paper's own continuations keep half of the clip.
            kept = base.frames_in((base.clip(kept).num_latent_frames + 1) // 2)
        video = read_video(
            _needed(prompt, "video", task), base.fps, max_frames=kept, trim=True, rate_hz=base.sample_rate_hz,
            short_side_px=SHORT_SIDE_PX,
        )  # fmt: skip
        given["video"] = video.frames
        if spec.audio is not Part.GENERATED:
            given["audio"] = video.waveform
    if spec.audio is Part.GIVEN:
        longest_s = float(base.clip(order.num_frames).duration_s)
        given["audio"] = read_audio(_needed(prompt, "audio", task), base.sample_rate_hz, max_s=longest_s, trim=True)
    if spec.reference_audio is Reference.NEEDED or (spec.reference_audio is Reference.ALLOWED and prompt.voice):
        given["voice"] = read_voice(_needed(prompt, "voice", task), trim=False)
        given["voice_text"] = prompt.voice_text
    return Request(
        task=task,
        speech=prompt.speech,
        caption=prompt.caption,
        num_frames=order.num_frames,
        seed=seed,
        sampling=order.options,
        **given,
    )


def _reconstructed(pipeline: "UniAVGenPipeline", prompt: Prompt, num_frames: int) -> "tuple[np.ndarray, np.ndarray]":
    base = pipeline.transformer.settings.timebase
    path = _needed(prompt, "video", RECONSTRUCTION)
    video = read_video(path, base.fps, max_frames=num_frames, trim=True, rate_hz=base.sample_rate_hz)
    if video.waveform is None:
        raise MediaError(f"{path.name} has no sound")
    return pipeline.reconstruct(video.frames, video.waveform)


def _needed(prompt: Prompt, name: str, task: str) -> Path:
    path = getattr(prompt, name)
    if path is None:
        raise ConfigError(f"the prompt has no {name}, which '{task}' needs")
    return path
