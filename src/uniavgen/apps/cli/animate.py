"""`uniavgen animate`: a picture speaks a recording. The output holds the recording itself."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.making import BASE, NUM_FRAMES, Common, check_outputs, described, make, with_common
from uniavgen.errors import MediaError

MIN_SOUND_S = 0.25
"""Below this nothing is said. [ours]"""


@with_common
def animate(
    common: Common,
    image: Annotated[Path, typer.Option(metavar="FILE", help="Picture of the person; the first frame.")],
    audio: Annotated[Path, typer.Option(metavar="FILE", help="What is heard, up to 5 s; any sound or video file.")],
    speech: Annotated[str, typer.Option(metavar="TEXT", help="What is said in --audio; helps if known.")] = "",
    caption: o.Caption = "",
    out: o.Out = None,
    num_frames: o.NumFrames = None,
    trim: o.Trim = False,
) -> None:
    """Make a picture speak a recording; the sound stays as it is.

    The clip is as long as the sound, rounded up to 1 + 4n frames.
    """
    from uniavgen.media.audio import read_audio
    from uniavgen.media.image import read_image
    from uniavgen.media.mux import write_clip_keeping_audio

    out = out or Path("out/animate.mp4")
    inputs = {"image": image, "audio": audio}
    check_outputs(out, common, inputs)
    longest_s = float(BASE.clip(num_frames or NUM_FRAMES).duration_s)
    # Containers round a clip's own sound up by less than half a frame.
    slack_s = float(1 / BASE.fps / 2)
    picture = read_image(image)
    sound = read_audio(audio, BASE.sample_rate_hz, max_s=longest_s + slack_s, trim=trim)
    seconds = len(sound) / BASE.sample_rate_hz
    if seconds < MIN_SOUND_S:
        raise MediaError(
            f"the sound of {audio} lasts {seconds:.2f} s, it needs {MIN_SOUND_S} s or more; use a longer one"
        )
    if num_frames is None:
        num_frames = min(BASE.frames_in(BASE.latent_frames(-int(-seconds * BASE.fps // 1))), NUM_FRAMES)

    from uniavgen.inference.request import Request
    from uniavgen.tasks.table import Task

    request = Request(
        task=Task.ANIMATION,
        image=picture,
        audio=sound,
        audio_rate_hz=BASE.sample_rate_hz,
        speech=speech,
        caption=caption,
        num_frames=num_frames,
        trim=trim,
        **common.asked(),
    )

    def write(_pipeline, clip, settings) -> str:
        stop_s = longest_s if trim else None
        kept = write_clip_keeping_audio(out, clip.frames, clip.fps, audio, settings, stop_s)
        return described(clip.frames, clip.fps, f"with the sound of {audio.name}, {kept}")

    make(request, common, out, inputs, write)
