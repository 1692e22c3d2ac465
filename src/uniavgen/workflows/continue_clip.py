"""Continuing a clip: its end is given, what follows is generated (the paper's continuation).

The model sees a window of `num_frames` frames that begins with the last part of the clip. The file holds that window,
or all of the clip and the new part behind it, both at the model's size.

Letters: F frames of the window, F2 of the whole clip, h w pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from uniavgen.errors import ConfigError, MediaError
from uniavgen.inference.clip import Clip
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeRule, resize
from uniavgen.media.mux import write_clip
from uniavgen.media.reader import open_media
from uniavgen.media.video import Video, check_video, count_frames, decode_video
from uniavgen.tasks.table import Task
from uniavgen.workflows.clip_jobs import READ_RATES, SHORT_SIDE_PX, ClipJob, GeneratedClip, describe_frames

KEEP_S = 2.5
"""Seconds of the clip that are given: half of a window. [paper, project page]"""
MAX_CLIP_S, MAX_APPENDED_S = 600.0, 60.0
"""Longest clip of which the end is read, and which is read as a whole. [ours]"""


@dataclass(frozen=True, kw_only=True)
class ContinueJob(ClipJob):
    """A window that begins with the end of `clip`; `speech` holds the given part's words, then the new ones."""

    kept_input = "clip"
    clip: Path
    keep_s: float = KEEP_S
    """Seconds of the clip's end that are given."""
    append: bool = False
    """Whether all of the clip is written before the new part."""

    def read(self) -> Request:
        """Reads the end of the clip. Raises MediaError where the clip is too long or lacks a track."""
        given = _read_end(self.clip, self._max_given_frames(), MAX_APPENDED_S if self.append else MAX_CLIP_S)
        return self.request(
            Task.CONTINUATION,
            self.max_frames,
            video=given.frames,
            video_fps=given.fps,
            audio=given.waveform,
            audio_rate_hz=READ_RATES.sample_rate_hz,
        )

    def check_output(self, out: Path) -> None:
        """Needs nothing: everything is encoded."""

    def write(self, out: Path, generated: GeneratedClip) -> str:
        """Writes the window, or the whole clip and the new part."""
        window, prepared = generated.clip, generated.prepared
        video = prepared.request.video
        assert video is not None, "a continuation has a video"
        frames, waveform = window.frames, window.waveform
        if self.append:
            frames, waveform = _append(self.clip, len(video), window, prepared.resize_rule)
        settings = {**generated.settings, "kept_frames": len(video), "appended": self.append}
        write_clip(out, frames, window.fps, waveform, window.sample_rate_hz, settings, generated.on_written)
        new_s = float((len(window.frames) - len(video)) / window.fps)
        return describe_frames(frames, window.fps, f"of which the last {new_s:.2f} s are new")

    def _max_given_frames(self) -> int:
        """Returns `keep_s` in frames, 1 + 4n, so that at least one latent frame of the window is new."""
        timing = READ_RATES.clip(self.max_frames)
        most = timing.num_frames - READ_RATES.temporal_stride
        most_s = float(most / READ_RATES.fps)
        if not 0 < self.keep_s <= most_s:
            raise ConfigError(
                f"--keep is above 0 and at most {most_s:.2f} s of {float(timing.duration_s):.2f}, got {self.keep_s}"
            )
        latent_frames = READ_RATES.latent_frames(max(round(self.keep_s * READ_RATES.fps), 1))
        return min(READ_RATES.frames_in(latent_frames), most)


def _read_end(path: Path, max_frames: int, max_s: float) -> Video:
    """Reads the last 1 + 4n frames of a file, at most `max_frames`, and their audio, zero where it ends before them.

    Raises MediaError for a file that is longer than `max_s` or has no audio.
    """
    with open_media(path) as reader:
        # By the header first, so that a long film is not read to be refused.
        declared_s = reader.declared_s(check_video(reader)) or 0.0
        count = 0 if declared_s > max_s + 1 else count_frames(reader, READ_RATES.fps)
        if not 1 <= count <= max_s * READ_RATES.fps:
            seconds = float(count / READ_RATES.fps) or declared_s
            raise MediaError(f"{path} lasts {seconds:.2f} s, up to {max_s:g} s can be continued; cut it")
        if reader.audio is None:
            raise MediaError(f"{path} has no sound track; to continue it, picture and sound are needed")
    length = min(max_frames, count)
    length -= (length - 1) % READ_RATES.temporal_stride
    # Opened again, because files without an index cannot be rewound.
    with open_media(path, quiet=True) as reader:
        end = decode_video(
            reader,
            READ_RATES.fps,
            start_frame=count - length,
            max_frames=length,
            rate_hz=READ_RATES.sample_rate_hz,
            trim=True,
            short_side_px=SHORT_SIDE_PX,
        )
    # Some headers count a frame that does not exist; then the first frames go, so that 1 + 4n remain.
    extra = (len(end.frames) - 1) % READ_RATES.temporal_stride
    frames = end.frames[extra:]
    first, num_samples = (round(count / READ_RATES.fps * READ_RATES.sample_rate_hz) for count in (extra, len(frames)))
    audio = np.zeros(0, np.float32) if end.waveform is None else end.waveform[first : first + num_samples]
    return Video(frames=frames, fps=end.fps, waveform=np.pad(audio, (0, num_samples - len(audio))))


def _append(
    path: Path, num_given: int, window: Clip, resize_rule: ResizeRule
) -> tuple[UInt8[np.ndarray, "F2 h w 3"], Float32[np.ndarray, " samples"]]:
    """Returns frames and audio of all of a clip, at the window's size and rates, with the window's new part behind."""
    with open_media(path, quiet=True) as reader:
        short_side_px = max(window.frames.shape[1:3])
        whole = decode_video(reader, window.fps, rate_hz=window.sample_rate_hz, short_side_px=short_side_px)
    frames = np.concatenate([resize(whole.frames, resize_rule), window.frames[num_given:]])
    # The window's audio begins with that of the given part, at its loudness; so the clip's ends where the window's
    # begins.
    num_samples = round((len(whole.frames) - num_given) / window.fps * window.sample_rate_hz)
    audio = np.zeros(0, np.float32) if whole.waveform is None else whole.waveform[:num_samples]
    before = np.pad(audio, (0, num_samples - len(audio)))
    return frames, np.concatenate([before, window.waveform]).astype(np.float32)
