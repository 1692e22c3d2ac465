"""`uniavgen continue`: the end of a clip is given, what follows is generated."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.generating import CONFIGS, job_settings, run_job

__all__ = ["CONFIGS", "continue_clip"]


def continue_clip(
    context: typer.Context,
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="Video with sound, to be continued.")],
    speech: Annotated[
        str, typer.Option(metavar="TEXT", help="What is said in the window: the kept part's words, then the new ones.")
    ],
    caption: o.Caption = "",
    keep: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How much of the end of CLIP is given; 2.5 if left out.")
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Write all of CLIP before the new part.")] = False,
    out: o.Out = None,
    num_frames: o.NumFrames = None,
) -> None:
    """Continue a clip with what is said next.

    The last --keep seconds of CLIP begin a window of --num-frames frames; the rest of the window is new.
    """
    from uniavgen.workflows.continue_clip import KEEP_S, ContinueJob

    job = ContinueJob(
        clip=clip,
        speech=speech,
        caption=caption,
        keep_s=KEEP_S if keep is None else keep,
        append=append,
        num_frames=num_frames,
        **job_settings(context),
    )
    run_job(context, job, out or Path("out/continue.mp4"))
