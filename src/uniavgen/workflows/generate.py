"""One clip from job to file: checked, prepared, loaded so that it fits, generated, written with its settings."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

import uniavgen
from uniavgen.artifacts import check_writable
from uniavgen.distributed import process_group
from uniavgen.inference.clip import Clip, OnProgress
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.prepared_request import PreparedRequest
from uniavgen.media.image import write_image
from uniavgen.media.mux import SUFFIXES
from uniavgen.media.sheet import contact_sheet
from uniavgen.provenance.config import MarkingConfig
from uniavgen.tasks.names import Task
from uniavgen.timebase import NUM_FRAMES
from uniavgen.workflows.clip_jobs import ClipJob, GeneratedClip
from uniavgen.workflows.fit import out_of_memory_as_error
from uniavgen.workflows.load import ModelLoader, Report
from uniavgen.workflows.load_config import LoadConfig
from uniavgen.workflows.marking import ClipMarker

THUMBNAIL_PX = 320


@dataclass(frozen=True, kw_only=True)
class GeneratedFile:
    """A clip that was written."""

    path: Path
    preview: Path | None
    """The contact sheet, if one was written."""
    content: str
    """One line about what the file holds."""
    clip: Clip
    settings: Mapping[str, Any]
    """What the clip was made with, as in the file's metadata."""
    load_s: float = 0.0
    generate_s: float = 0.0
    write_s: float = 0.0


def generate(
    job: ClipJob,
    out: Path,
    load: LoadConfig | None = None,
    preview: bool = False,
    on_progress: OnProgress | None = None,
    report: Report = lambda _: None,
    marking: MarkingConfig | None = None,
) -> GeneratedFile | None:
    """Generates the clip of a job and writes it to `out`, with a contact sheet beside it where `preview` is set.

    Everything that can be wrong is checked before weights are loaded. Processes that torchrun started share the clip;
    all but the first return None.

    load: which model, where and how; nano on the best device if None.
    marking: whether and how it is marked and signed; with all marks and the user's own key if None.
    report: takes a line about how the clip fits into a GPU's memory, and one with the words that are said where these
        differ from what is written.
    Raises ConfigError, MediaError, OutputError and CheckpointError; then nothing is left on the disk.
    """
    started = time.monotonic()
    check_outputs(job, out, preview)
    marker = ClipMarker.build(marking or MarkingConfig(), out.suffix, report)
    loader = ModelLoader(load or LoadConfig(), report)
    prepared = prepare_job(job, out, loader)
    if prepared.speech != " ".join(prepared.request.speech.split()):
        report(f"said: {prepared.speech}")
    with process_group() as shared_device:
        pipeline = loader.load_for(prepared, shared_device)
        loaded = time.monotonic()
        with out_of_memory_as_error():
            clip = pipeline(prepared, on_progress=on_progress if pipeline.parallel.is_main else None)
    if not pipeline.parallel.is_main:
        return None
    generated = time.monotonic()
    file = _finish(job, out, loader, prepared, clip, preview, marker)
    written = time.monotonic()
    return replace(file, load_s=loaded - started, generate_s=generated - loaded, write_s=written - generated)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that stays loaded and makes one clip after the other.

    model = LoadedModel.load(LoadConfig(model="nano"))
    file = model.generate(GenerateJob(image=Path("me.png"), speech="It is late."), Path("clip.mp4"))
    """

    loader: ModelLoader
    pipeline: UniAVGenPipeline

    @staticmethod
    def load(load: LoadConfig, max_frames: int = NUM_FRAMES, report: Report = lambda _: None) -> "LoadedModel":
        """Loads a model so that clips of every task fit, up to `max_frames` frames.

        Raises CheckpointError and ConfigError.
        """
        loader = ModelLoader(load, report)
        return LoadedModel(loader=loader, pipeline=loader.load_for_tasks([*Task], max_frames))

    def generate(
        self,
        job: ClipJob,
        out: Path,
        marking: MarkingConfig | None = None,
        on_progress: OnProgress | None = None,
        report: Report = lambda _: None,
    ) -> GeneratedFile:
        """Generates the clip of a job and writes it to `out`, as `generate` does. Raises the same errors."""
        check_outputs(job, out, preview=False)
        marker = ClipMarker.build(marking or MarkingConfig(), out.suffix, report)
        prepared = prepare_job(job, out, self.loader)
        with out_of_memory_as_error():
            clip = self.pipeline(prepared, on_progress=on_progress)
        return _finish(job, out, self.loader, prepared, clip, False, marker)


def prepare_job(job: ClipJob, out: Path, loader: ModelLoader) -> PreparedRequest:
    """Reads the inputs of a job and checks that `loader`'s model can make its clip and `out` can hold it.

    Needs no weights. Raises ConfigError, MediaError and CheckpointError.
    """
    request = job.read()
    job.check_output(out)
    return loader.prepare(request)


def clip_settings(job: ClipJob, model: str, clip: Clip) -> dict[str, Any]:
    """Returns what a clip was made with, for the metadata of its file."""
    names = {role: path.name for role, path in job.inputs.items()} | dict(job.input_names)
    return {"made_by": f"uniavgen {uniavgen.__version__}", "model": model, **clip.settings, "inputs": names}


def write_clip_file(
    job: ClipJob, out: Path, generated: GeneratedClip, preview: bool, marker: ClipMarker
) -> GeneratedFile:
    """Marks a finished clip and writes it to `out`, signed, with a contact sheet beside it where `preview` is set.

    Every clip that is made of a job, by the shell or a server, is written here. Raises OutputError and MediaError.
    """
    preview_path = out.with_suffix(".png") if preview else None
    generated = marker.mark(job, generated)
    content = job.write(out, generated)
    if preview_path is not None:
        write_preview(preview_path, generated.clip, generated.settings)
    return GeneratedFile(
        path=out, preview=preview_path, content=content, clip=generated.clip, settings=generated.settings
    )


def write_preview(path: Path, clip: Clip, settings: Mapping[str, Any]) -> None:
    """Writes a contact sheet of frames, face mask, waveform and mel."""
    text = f'"{settings["speech"]}"' if settings["speech"] else settings["caption"]
    title = f"{settings['task']} | {text} | {settings['model']}, seed {settings['seed']}, {settings['steps']} steps"
    sheet = contact_sheet(
        clip.frames, clip.fps, clip.waveform, clip.sample_rate_hz, clip.mel, clip.face_mask, title=title
    )
    write_image(path, sheet)


def _finish(
    job: ClipJob,
    out: Path,
    loader: ModelLoader,
    prepared: PreparedRequest,
    clip: Clip,
    preview: bool,
    marker: ClipMarker,
) -> GeneratedFile:
    settings = clip_settings(job, loader.name, clip)
    return write_clip_file(job, out, GeneratedClip(clip=clip, settings=settings, prepared=prepared), preview, marker)


def thumbnail(clip: Clip) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the frame in the middle of a clip, no side longer than THUMBNAIL_PX."""
    image = Image.fromarray(clip.frames[len(clip.frames) // 2])
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return np.array(image)


def check_outputs(job: ClipJob, out: Path, preview: bool) -> None:
    """Raises OutputError where a clip or its contact sheet cannot be written, or would replace an input."""
    inputs = tuple(job.inputs.values())
    check_writable(out, SUFFIXES, inputs=inputs)
    if preview:
        check_writable(out.with_suffix(".png"), (".png",), inputs=inputs)
