"""`uniavgen dub`: speech for a video. The output holds the video's own picture packets, untouched."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.making import (
    BASE,
    NUM_FRAMES,
    SHORT_SIDE_PX,
    Common,
    check_outputs,
    make,
    read_voice,
    with_common,
)


@with_common
def dub(
    common: Common,
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
    from uniavgen.media.mux import write_clip_keeping_video
    from uniavgen.media.video import read_video

    out = out or Path("out/dub.mp4")
    inputs = {"video": video, "voice": voice}
    check_outputs(out, common, inputs)
    num_frames = NUM_FRAMES if num_frames is None else num_frames
    BASE.clip(num_frames)
    given = read_video(video, BASE.fps, max_frames=num_frames, trim=trim, short_side_px=SHORT_SIDE_PX)
    recording = read_voice(voice, trim)

    from uniavgen.inference.request import Request
    from uniavgen.tasks.table import Task

    request = Request(
        task=Task.DUBBING,
        video=given.frames,
        video_fps=given.fps,
        speech=speech,
        caption=caption,
        voice=recording,
        voice_text=voice_text,
        num_frames=num_frames,
        trim=trim,
        **common.asked(),
    )

    def write(_pipeline, clip, settings) -> str:
        stop_s = float(num_frames / BASE.fps) if trim else None
        write_clip_keeping_video(out, video, clip.waveform, clip.sample_rate_hz, settings, stop_s)
        seconds = len(clip.waveform) / clip.sample_rate_hz
        return f"the picture track of {video.name}, copied, with {seconds:.2f} s of voice at {clip.sample_rate_hz} Hz"

    make(request, common, out, inputs, write)
