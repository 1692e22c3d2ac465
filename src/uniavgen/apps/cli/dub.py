"""`uniavgen dub`: speech for a video. The output holds the video's own picture packets, where it can hold them."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.generating import CONFIGS, job_settings, run_job

__all__ = ["CONFIGS", "dub"]


def dub(
    context: typer.Context,
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="Video of a person who speaks, 0.3 to 5 s.")],
    speech: o.Speech,
    caption: o.Caption = "",
    voice: o.Voice = None,
    voice_text: o.VoiceText = "",
    out: o.Out = None,
    num_frames: o.NumFrames = None,
    trim: o.Trim = False,
) -> None:
    """Give a video a voice; its frames stay as they are.

    The voice is as long as the video, rounded down to 1 + 4n frames. With --trim a longer video ends with the voice.
    """
    from uniavgen.workflows.clip_jobs import DubJob

    job = DubJob(
        video=video,
        speech=speech,
        caption=caption,
        voice=voice,
        voice_text=voice_text,
        num_frames=num_frames,
        trim=trim,
        **job_settings(context),
    )
    run_job(context, job, out or Path("out/dub.mp4"))
