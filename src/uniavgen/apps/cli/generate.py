"""`uniavgen generate`: a picture, a caption and a sentence become a clip, in the voice of a recording if given."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.making import NUM_FRAMES, Common, check_outputs, described, make, read_voice, with_common


@with_common
def generate(
    common: Common,
    image: Annotated[Path, typer.Option(metavar="FILE", help="Picture of the person; the first frame.")],
    speech: o.Speech,
    caption: o.Caption = "",
    voice: o.Voice = None,
    voice_text: o.VoiceText = "",
    out: o.Out = None,
    num_frames: o.NumFrames = None,
    trim: o.Trim = False,
) -> None:
    """Make a talking clip of a picture, a caption and a sentence."""
    from uniavgen.media.image import read_image
    from uniavgen.media.mux import write_clip

    out = out or Path("out/generate.mp4")
    inputs = {"image": image, "voice": voice}
    check_outputs(out, common, inputs)
    num_frames = NUM_FRAMES if num_frames is None else num_frames
    picture, recording = read_image(image), read_voice(voice, trim)

    from uniavgen.inference.request import Request
    from uniavgen.tasks.table import Task

    request = Request(
        task=Task.JOINT if recording is None else Task.REFERENCE_AUDIO,
        image=picture,
        speech=speech,
        caption=caption,
        voice=recording,
        voice_text=voice_text,
        num_frames=num_frames,
        trim=trim,
        **common.asked(),
    )

    def write(_pipeline, clip, settings) -> str:
        write_clip(out, clip.frames, clip.fps, clip.waveform, clip.sample_rate_hz, settings)
        return described(clip.frames, clip.fps, f"a voice at {clip.sample_rate_hz} Hz")

    make(request, common, out, inputs, write)
