"""`uniavgen generate`: an image, a caption and a sentence become a clip, in the voice of a recording if given."""

from pathlib import Path

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.generating import CONFIGS, job_settings, run_job

__all__ = ["CONFIGS", "generate"]


def generate(
    context: typer.Context,
    image: o.Image,
    speech: o.Speech,
    caption: o.Caption = "",
    voice: o.Voice = None,
    voice_text: o.VoiceText = "",
    out: o.Out = None,
    num_frames: o.NumFrames = None,
    trim: o.Trim = False,
) -> None:
    """Make a talking clip of a picture, a caption and a sentence."""
    from uniavgen.workflows.clip_jobs import GenerateJob

    job = GenerateJob(
        image=image,
        speech=speech,
        caption=caption,
        voice=voice,
        voice_text=voice_text,
        num_frames=num_frames,
        trim=trim,
        **job_settings(context),
    )
    run_job(context, job, out or Path("out/generate.mp4"))
