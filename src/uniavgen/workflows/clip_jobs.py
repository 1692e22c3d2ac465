"""The clips that one can ask for, as plain values: paths, texts and numbers that a queue can carry.

A job reads its files to a `Request` and knows how the finished clip is written. `generate.generate` runs it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from uniavgen.arguments import check_arguments
from uniavgen.codecs.speech_symbols import AUTOMATIC
from uniavgen.errors import MediaError
from uniavgen.inference.clip import Clip
from uniavgen.inference.prepared_request import PreparedRequest
from uniavgen.inference.request import MAX_VOICE_S, Request
from uniavgen.media.audio import read_audio
from uniavgen.media.image import read_image
from uniavgen.media.mux import OnWritten, write_clip, write_clip_keeping_audio, write_clip_keeping_video
from uniavgen.media.stream_copy import plan_audio, plan_video
from uniavgen.media.video import read_video
from uniavgen.tasks.table import Task
from uniavgen.timebase import NUM_FRAMES, Timebase

READ_RATES = Timebase()
"""Inputs are read at these rates; the pipeline brings them to its model's."""
SHORT_SIDE_PX = 1088
"""Videos are read at no more than this; no model here draws larger."""
MIN_DRIVING_AUDIO_S = 0.25
"""A shorter recording holds no speech. [ours]"""


@dataclass(frozen=True, kw_only=True)
class GeneratedClip:
    """A finished clip that is not written yet."""

    clip: Clip
    settings: Mapping[str, Any]
    """What it was made with, for the file's metadata."""
    prepared: PreparedRequest
    on_written: OnWritten | None = None
    """What is done to the complete file before it gets its name."""


@dataclass(frozen=True, kw_only=True)
class ClipJob(ABC):
    """One clip to be generated and written."""

    speech: str = ""
    """The words to be spoken, or the transcript of given audio."""
    caption: str = ""
    """What the picture shows."""
    num_frames: int | None = None
    """Length of the clip, 1 + 4n; None is 81, or what the inputs hold."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; None is the shape of the image at the model's size."""
    trim: bool = False
    """Whether inputs that are too long are cut instead of refused."""
    verbatim: bool = False
    """Whether figures, signs and abbreviations are left as they are written."""
    language: str = AUTOMATIC
    """Language of the speech and of the voice's transcript; `auto` is that of their script."""
    seed: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SamplingConfig` that differ from the model's defaults."""
    input_names: Mapping[str, str] = field(default_factory=dict)
    """Names of inputs in the settings of the clip, where they differ from those of the files: those of uploads."""

    kept_input: ClassVar[str | None] = None
    """Field of the file whose picture or sound the clip keeps."""

    def __post_init__(self) -> None:
        check_arguments(self)

    @property
    def inputs(self) -> dict[str, Path]:
        """Returns the files that are read, by field name; none of them is ever written to."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Path)}

    @abstractmethod
    def read(self) -> Request:
        """Reads the files. Raises MediaError for a file and ConfigError for a value that cannot be used."""

    @abstractmethod
    def check_output(self, out: Path) -> None:
        """Raises MediaError where the container of `out` cannot hold what a clip of this job takes from its inputs."""

    @abstractmethod
    def write(self, out: Path, generated: GeneratedClip) -> str:
        """Writes the clip with its settings as metadata to `out`; returns one line about what the file holds."""

    @property
    def max_frames(self) -> int:
        """Returns the length that the clip has or may at most have."""
        return NUM_FRAMES if self.num_frames is None else self.num_frames

    @property
    def _longest_s(self) -> float:
        # Raises ConfigError for a length that is no 1 + 4n, before a video is decoded.
        return float(READ_RATES.clip(self.max_frames).duration_s)

    @property
    def _stop_s(self) -> float | None:
        """Returns where a track that is taken from an input ends; None for its own end."""
        return self._longest_s if self.trim else None

    def request(self, task: Task, num_frames: int, **inputs: Any) -> Request:
        """Returns a request of this job's settings with the inputs that were read."""
        return Request(
            task=task,
            speech=self.speech,
            caption=self.caption,
            num_frames=num_frames,
            size=self.size,
            trim=self.trim,
            verbatim=self.verbatim,
            language=self.language,
            seed=self.seed,
            sampling=self.sampling,
            **inputs,
        )


@dataclass(frozen=True, kw_only=True)
class GenerateJob(ClipJob):
    """A talking clip of an image, in the voice of a recording if there is one (tasks joint and reference_audio)."""

    image: Path
    voice: Path | None = None
    voice_text: str = ""

    def read(self) -> Request:
        """Reads image and voice."""
        image, voice = read_image(self.image), read_voice(self.voice, self.trim)
        task = Task.JOINT if voice is None else Task.REFERENCE_AUDIO
        return self.request(task, self.max_frames, image=image, voice=voice, voice_text=self.voice_text)

    def check_output(self, out: Path) -> None:
        """Needs nothing: everything is encoded."""

    def write(self, out: Path, generated: GeneratedClip) -> str:
        """Writes generated frames and audio."""
        clip = generated.clip
        rate_hz, settings = clip.sample_rate_hz, generated.settings
        write_clip(out, clip.frames, clip.fps, clip.waveform, rate_hz, settings, generated.on_written)
        return describe_frames(clip.frames, clip.fps, f"a voice at {clip.sample_rate_hz} Hz")


@dataclass(frozen=True, kw_only=True)
class DubJob(ClipJob):
    """Speech for a video, as long as the video, rounded down to 1 + 4n frames. The file holds the video's own picture
    packets."""

    kept_input = "video"
    video: Path
    voice: Path | None = None
    voice_text: str = ""

    def read(self) -> Request:
        """Reads the video's frames and the voice."""
        num_frames = self.max_frames
        READ_RATES.clip(num_frames)
        video = read_video(
            self.video, READ_RATES.fps, max_frames=num_frames, trim=self.trim, short_side_px=SHORT_SIDE_PX
        )
        voice = read_voice(self.voice, self.trim)
        return self.request(
            Task.DUBBING,
            num_frames,
            video=video.frames,
            video_fps=video.fps,
            voice=voice,
            voice_text=self.voice_text,
        )

    def check_output(self, out: Path) -> None:
        """Tries out whether the picture track can be copied."""
        plan_video(self.video, out.suffix, self._stop_s)

    def write(self, out: Path, generated: GeneratedClip) -> str:
        """Copies the video's picture track and adds the generated audio; a trimmed video ends with its audio."""
        waveform, rate_hz = generated.clip.waveform, generated.clip.sample_rate_hz
        transfer = write_clip_keeping_video(
            out, self.video, waveform, rate_hz, generated.settings, self._stop_s, generated.on_written
        )
        seconds = len(waveform) / rate_hz
        return f"the picture track of {self.video.name}, {transfer}, with {seconds:.2f} s of voice at {rate_hz} Hz"


@dataclass(frozen=True, kw_only=True)
class AnimateJob(ClipJob):
    """An image that speaks a recording, as long as the recording, rounded up to 1 + 4n frames. The file holds the
    recording itself."""

    kept_input = "audio"
    image: Path
    audio: Path

    def read(self) -> Request:
        """Reads image and audio. Raises MediaError where the audio is below MIN_DRIVING_AUDIO_S or too long."""
        image = read_image(self.image)
        # Containers round a clip's own audio up by less than half a frame.
        slack_s = float(1 / READ_RATES.fps / 2)
        waveform = read_audio(self.audio, READ_RATES.sample_rate_hz, max_s=self._longest_s + slack_s, trim=self.trim)
        seconds = len(waveform) / READ_RATES.sample_rate_hz
        if seconds < MIN_DRIVING_AUDIO_S:
            raise MediaError(
                f"the sound of {self.audio} lasts {seconds:.2f} s, it needs {MIN_DRIVING_AUDIO_S} s or more; "
                "use a longer one"
            )
        frames_of_audio = math.ceil(seconds * READ_RATES.fps)
        fitting = READ_RATES.frames_in(READ_RATES.latent_frames(frames_of_audio))
        return self.request(
            Task.ANIMATION,
            min(fitting, NUM_FRAMES) if self.num_frames is None else self.num_frames,
            image=image,
            audio=waveform,
            audio_rate_hz=READ_RATES.sample_rate_hz,
        )

    def check_output(self, out: Path) -> None:
        """Tries out how the recording is stored."""
        plan_audio(self.audio, out.suffix, self._stop_s)

    def write(self, out: Path, generated: GeneratedClip) -> str:
        """Writes generated frames with the recording's own audio track."""
        clip = generated.clip
        storage = write_clip_keeping_audio(
            out, clip.frames, clip.fps, self.audio, generated.settings, self._stop_s, generated.on_written
        )
        return describe_frames(clip.frames, clip.fps, f"with the sound of {self.audio.name}, {storage}")


def read_voice(path: Path | None, trim: bool) -> Float32[np.ndarray, " samples"] | None:
    """Reads the recording of a voice; None for no path."""
    if path is None:
        return None
    return read_audio(path, READ_RATES.sample_rate_hz, max_s=float(MAX_VOICE_S), trim=trim)


def describe_frames(frames: np.ndarray, fps: Fraction, audio: str) -> str:
    """Returns one line about a clip: number, size and rate of its frames, its length, and `audio`."""
    count, height, width = frames.shape[:3]
    return f"{count} frames of {width}x{height} px at {float(fps):g} fps, {float(count / fps):.2f} s, {audio}"
