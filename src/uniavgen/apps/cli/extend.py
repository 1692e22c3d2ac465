"""`uniavgen continue`: the end of a clip is given, what follows is made (the paper's continuation).

The model sees a window of `num_frames` frames that begins with the last part of the clip. The output is that window,
or with --append all of the clip and the new part behind it, both at the model's size.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.making import (
    BASE,
    NUM_FRAMES,
    SHORT_SIDE_PX,
    Common,
    check_outputs,
    described,
    make,
    with_common,
)
from uniavgen.errors import ConfigError, MediaError

if TYPE_CHECKING:
    import numpy as np

    from uniavgen.inference.clip import Clip
    from uniavgen.inference.resize import ResizeRule
    from uniavgen.media.video import Video

KEEP_S = 2.5
"""Half of a clip. [paper, project page]"""
MAX_CLIP_S, MAX_APPENDED_S = 600.0, 60.0
"""Longest clip of which the end is read, and which is read as a whole. [ours]"""


@with_common
def extend(
    common: Common,
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="Video with sound, to be continued.")],
    speech: Annotated[
        str, typer.Option(metavar="TEXT", help="What is said in the window: the kept part's words, then the new ones.")
    ],
    caption: o.Caption = "",
    keep: Annotated[float, typer.Option(metavar="SECONDS", help="How much of the end of CLIP is given.")] = KEEP_S,
    append: Annotated[bool, typer.Option("--append", help="Write all of CLIP before the new part.")] = False,
    out: o.Out = None,
    num_frames: o.NumFrames = None,
) -> None:
    """Continue a clip with what is said next.

    The last --keep seconds of CLIP begin a window of --num-frames frames; the rest of the window is new.
    """
    from uniavgen.media.mux import write_clip

    out = out or Path("out/continue.mp4")
    inputs = {"clip": clip}
    check_outputs(out, common, inputs)
    num_frames = NUM_FRAMES if num_frames is None else num_frames
    kept = _read_end(clip, _kept_frames(keep, num_frames), MAX_APPENDED_S if append else MAX_CLIP_S)

    from uniavgen.inference.request import Request
    from uniavgen.tasks.table import Task

    request = Request(
        task=Task.CONTINUATION,
        video=kept.frames,
        video_fps=kept.fps,
        audio=kept.waveform,
        audio_rate_hz=BASE.sample_rate_hz,
        speech=speech,
        caption=caption,
        num_frames=num_frames,
        **common.asked(),
    )

    def write(pipeline, window, settings) -> str:
        frames, waveform = (
            _joined(clip, kept, window, pipeline.spec.resize_rule_for(request.size))
            if append
            else (window.frames, window.waveform)
        )
        stored = {**settings, "kept_frames": len(kept.frames), "appended": append}
        write_clip(out, frames, window.fps, waveform, window.sample_rate_hz, stored)
        new_s = float((len(window.frames) - len(kept.frames)) / window.fps)
        return described(frames, window.fps, f"of which the last {new_s:.2f} s are new")

    make(request, common, out, inputs, write)


def _kept_frames(keep_s: float, num_frames: int) -> int:
    timing = BASE.clip(num_frames)
    longest = num_frames - BASE.temporal_stride
    longest_s = float(longest / BASE.fps)
    if not 0 < keep_s <= longest_s:
        raise ConfigError(
            f"--keep is above 0 and at most {longest_s:.2f} s of {float(timing.duration_s):.2f}, got {keep_s}"
        )
    return min(BASE.frames_in(BASE.latent_frames(max(round(keep_s * BASE.fps), 1))), longest)


def _read_end(path: Path, most: int, limit_s: float) -> "Video":
    """The last 1 + 4n frames of a file, at most `most`, and their sound, silent where it ends before them."""
    import numpy as np

    from uniavgen.media.probe import probe
    from uniavgen.media.video import Video, count_frames, read_video

    count = count_frames(path, BASE.fps)
    if not 1 <= count <= limit_s * BASE.fps:
        raise MediaError(f"{path} lasts {float(count / BASE.fps):.2f} s, up to {limit_s:g} s can be continued; cut it")
    if probe(path).audio is None:
        raise MediaError(f"{path} has no sound track; to continue it, picture and sound are needed")
    length = min(most, count)
    length -= (length - 1) % BASE.temporal_stride
    read = read_video(
        path,
        BASE.fps,
        start_frame=count - length,
        max_frames=length,
        rate_hz=BASE.sample_rate_hz,
        trim=True,
        short_side_px=SHORT_SIDE_PX,
    )
    # Where the header counts a frame that is not there.
    extra = (len(read.frames) - 1) % BASE.temporal_stride
    frames = read.frames[extra:]
    first, samples = (round(count / BASE.fps * BASE.sample_rate_hz) for count in (extra, len(frames)))
    sound = np.zeros(0, np.float32) if read.waveform is None else read.waveform[first : first + samples]
    return Video(frames=frames, fps=read.fps, waveform=np.pad(sound, (0, samples - len(sound))))


def _joined(path: Path, kept: "Video", window: "Clip", size: "ResizeRule") -> "tuple[np.ndarray, np.ndarray]":
    """All of a clip at the window's size and the window's new part behind it, in picture and sound."""
    import numpy as np

    from uniavgen.inference.resize import resize
    from uniavgen.media.video import read_video

    side_px = max(window.frames.shape[1:3])
    whole = read_video(path, window.fps, rate_hz=window.sample_rate_hz, short_side_px=side_px)
    frames = np.concatenate([resize(whole.frames, size), window.frames[len(kept.frames) :]])
    # The window's sound begins with that of the kept part, as loud as it was.
    rate = window.sample_rate_hz
    begins = round((len(whole.frames) - len(kept.frames)) / window.fps * rate)
    sound = np.zeros(0, np.float32) if whole.waveform is None else whole.waveform[:begins]
    before = np.pad(sound, (0, begins - len(sound)))
    return frames, np.concatenate([before, window.waveform]).astype(np.float32)
