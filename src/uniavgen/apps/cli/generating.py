"""What the generating commands have in common: their options, and what they print."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.progress import phase_bars
from uniavgen.apps.config_options import given_values
from uniavgen.arguments import parse_size
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.provenance.config import MarkingConfig
from uniavgen.workflows.load_config import LoadConfig

if TYPE_CHECKING:
    from uniavgen.workflows.clip_jobs import ClipJob

CONFIGS: dict[type, tuple[str, ...]] = {o.ClipOptions: (), MarkingConfig: (), SamplingConfig: (), LoadConfig: ()}
"""Dataclasses whose fields are options, and fields that are none."""


def job_settings(context: typer.Context) -> dict[str, Any]:
    """Returns the fields of a `ClipJob` that every generating command can set."""
    clip = o.ClipOptions(**given_values(context, o.ClipOptions))
    settings = {name: getattr(clip, name) for name in ("seed", "verbatim", "language")}
    return {**settings, "size": parse_size(clip.size), "sampling": given_values(context, SamplingConfig)}


def run_job(context: typer.Context, job: "ClipJob", out: Path) -> None:
    """Generates the clip of a job, shows progress, and prints what was written and how long it took."""
    from uniavgen.workflows.generate import generate

    preview = "preview" in given_values(context, o.ClipOptions)
    with phase_bars() as on_progress:
        marking = MarkingConfig(**o.given_values(context, MarkingConfig))
        file = generate(job, out, o.load_config(context), preview, on_progress, print, marking)
    if file is None:
        return
    settings = file.settings
    print(f"{file.path}: {file.content}")
    if file.preview is not None:
        print(f"{file.preview}: contact sheet of frames, face mask, waveform and mel")
    print(
        f"task {settings['task']}, model {settings['model']}, seed {settings['seed']}, {settings['steps']} steps, "
        f"guidance {settings['guidance']} ({settings['video_guidance']:g} video, {settings['audio_guidance']:g} audio)"
    )
    print(f"loading took {file.load_s:.1f} s, making {file.generate_s:.1f} s, writing {file.write_s:.1f} s")
