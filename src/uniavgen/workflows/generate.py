"""One clip from job to file: checked, prepared, loaded so that it fits, generated, written with its settings."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uniavgen
from uniavgen.artifacts import check_writable
from uniavgen.distributed import process_group
from uniavgen.inference.clip import Clip, OnProgress
from uniavgen.media.image import write_image
from uniavgen.media.mux import SUFFIXES
from uniavgen.media.sheet import contact_sheet
from uniavgen.workflows.clip_jobs import ClipJob, GeneratedClip
from uniavgen.workflows.fit import out_of_memory_as_error
from uniavgen.workflows.load import ModelLoader, Report
from uniavgen.workflows.load_config import LoadConfig


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
    load_s: float
    generate_s: float
    write_s: float


def generate(
    job: ClipJob,
    out: Path,
    load: LoadConfig | None = None,
    preview: bool = False,
    on_progress: OnProgress | None = None,
    report: Report = lambda _: None,
) -> GeneratedFile | None:
    """Generates the clip of a job and writes it to `out`, with a contact sheet beside it where `preview` is set.

    Everything that can be wrong is checked before weights are loaded. Processes that torchrun started share the clip;
    all but the first return None.

    load: which model, where and how; nano on the best device if None.
    report: takes a line about how the clip fits into a GPU's memory, and one with the words that are said where these
        differ from what is written.
    Raises ConfigError, MediaError, OutputError and CheckpointError; then nothing is left on the disk.
    """
    started = time.monotonic()
    preview_path = out.with_suffix(".png") if preview else None
    _check_outputs(job, out, preview_path)
    loader = ModelLoader(load or LoadConfig(), report)
    request = job.read()
    job.check_output(out)
    prepared = loader.prepare(request)
    if prepared.speech != " ".join(prepared.request.speech.split()):
        report(f"said: {prepared.speech}")
    with process_group() as shared_device:
        pipeline = loader.load_for(prepared, shared_device)
        loaded = time.monotonic()
        is_main = pipeline.parallel.is_main
        with out_of_memory_as_error():
            clip = pipeline(prepared, on_progress=on_progress if is_main else None)
    if not is_main:
        return None
    generated = time.monotonic()
    settings = {
        "made_by": f"uniavgen {uniavgen.__version__}",
        "model": loader.name,
        **clip.settings,
        "inputs": {role: path.name for role, path in job.inputs.items()},
    }
    content = job.write(out, GeneratedClip(clip=clip, settings=settings, prepared=prepared))
    if preview_path is not None:
        write_preview(preview_path, clip, settings)
    return GeneratedFile(
        path=out,
        preview=preview_path,
        content=content,
        clip=clip,
        settings=settings,
        load_s=loaded - started,
        generate_s=generated - loaded,
        write_s=time.monotonic() - generated,
    )


def write_preview(path: Path, clip: Clip, settings: Mapping[str, Any]) -> None:
    """Writes a contact sheet of frames, face mask, waveform and mel."""
    text = f'"{settings["speech"]}"' if settings["speech"] else settings["caption"]
    title = f"{settings['task']} | {text} | {settings['model']}, seed {settings['seed']}, {settings['steps']} steps"
    sheet = contact_sheet(
        clip.frames, clip.fps, clip.waveform, clip.sample_rate_hz, clip.mel, clip.face_mask, title=title
    )
    write_image(path, sheet)


def _check_outputs(job: ClipJob, out: Path, preview: Path | None) -> None:
    inputs = tuple(job.inputs.values())
    check_writable(out, SUFFIXES, inputs=inputs)
    if preview is not None:
        check_writable(preview, (".png",), inputs=inputs)
