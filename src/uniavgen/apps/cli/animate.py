"""`uniavgen animate`: a picture speaks a recording. The output holds the recording itself."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.generating import CONFIGS, job_settings, run_job

__all__ = ["CONFIGS", "animate"]


def animate(
    context: typer.Context,
    image: o.Image,
    audio: Annotated[Path, typer.Option(metavar="FILE", help="Recording to speak, up to 5 s; a sound or video file.")],
    speech: Annotated[str, typer.Option(metavar="TEXT", help="What is said in --audio; helps if known.")] = "",
    caption: o.Caption = "",
    out: o.Out = None,
    num_frames: o.NumFrames = None,
    trim: o.Trim = False,
) -> None:
    """Make a picture speak a recording; the sound stays as it is.

    The clip is as long as the sound, rounded up to 1 + 4n frames.
    """
    from uniavgen.workflows.clip_jobs import AnimateJob

    job = AnimateJob(
        image=image,
        audio=audio,
        speech=speech,
        caption=caption,
        num_frames=num_frames,
        trim=trim,
        **job_settings(context),
    )
    run_job(context, job, out or Path("out/animate.mp4"))
