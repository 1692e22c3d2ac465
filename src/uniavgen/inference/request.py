"""The inputs of one clip, checked as far as possible without a model; `prepared_request` checks the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from uniavgen.arguments import check_arguments
from uniavgen.codecs.speech_symbols import AUTOMATIC, Language
from uniavgen.errors import ConfigError, MediaError
from uniavgen.tasks.table import TASKS, ModalityRole, ReferenceAudio, Task
from uniavgen.timebase import Timebase

MIN_SIDE_PX = 16
MAX_SIDE_PX = 4096
"""Largest side of a clip; models generate far smaller ones. [ours]"""
MIN_FRAMES, MAX_FRAMES = 5, 1025
"""Clip lengths that make sense to a model trained on 81. [ours]"""
MIN_VOICE_S = 0.5
MAX_VOICE_S = 81 / Timebase.fps
"""The duration of the paper's clip, whatever the duration of the generated one. [release]"""
MAX_VIDEO_FPS = 1000
MIN_AUDIO_RATE_HZ, MAX_AUDIO_RATE_HZ = 1000, 768_000
"""Sample rates of sound files that exist. [ours]"""
MAX_CHARACTERS = 4000
"""Longest text; `speech_length` checks how much of it a clip can hold. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The inputs of one clip. Which of them a task takes follows from `tasks.table.TASKS`:

    | task | needs | takes |
    |---|---|---|
    | joint | image, speech | caption |
    | reference_audio | image, speech, voice, voice_text | caption |
    | continuation | video, audio, speech | caption |
    | dubbing | video, speech | caption, voice with voice_text |
    | animation | image, audio | caption, speech (the transcript) |

    Raises MediaError for images, videos and audio, ConfigError for everything else.
    """

    task: Task
    speech: str = ""
    """Text to be spoken; in a continuation that of the whole clip, its given part included."""
    caption: str = ""
    """Description of the scene."""
    image: np.ndarray | None = None
    """uint8 `height width 3`, RGB."""
    video: np.ndarray | None = None
    """uint8 `frames height width 3`, RGB."""
    video_fps: Fraction = Timebase.fps
    """Rate of `video`; it is brought to the model's."""
    audio: np.ndarray | None = None
    """Waveform, mono float32 in [-1, 1]: the driving speech, or the sound track of the given video."""
    audio_rate_hz: int = Timebase.sample_rate_hz
    voice: np.ndarray | None = None
    """Waveform, mono float32 in [-1, 1]: a recording of the reference voice."""
    voice_rate_hz: int = Timebase.sample_rate_hz
    voice_text: str = ""
    """Transcript of `voice`."""
    num_frames: int = 81
    """Length of the clip, 1 + 4n; in dubbing at most, since the clip is as long as its video."""
    size: tuple[int, int] | None = None
    """Width and height of the clip in pixels, whole tokens each; None is the image's shape at the model's size."""
    trim: bool = False
    """Whether inputs that are too long are cut instead of refused."""
    verbatim: bool = False
    """Whether figures, signs and abbreviations of `speech` and `voice_text` stay as they are written."""
    language: str = AUTOMATIC
    """Language of `speech` and `voice_text`, a `Language`, or `auto` for that of their script."""
    seed: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `SamplingConfig` by name, in place of the model's own; checked when the request is prepared."""

    def __post_init__(self) -> None:
        if self.task not in [*Task]:
            raise ConfigError(f"there is no task '{self.task}'; use one of {', '.join(Task)}")
        if self.language not in (AUTOMATIC, *Language):
            raise ConfigError(f"there is no language '{self.language}'; use one of {', '.join((AUTOMATIC, *Language))}")
        self._check_numbers()
        self._check_inputs()
        self._check_texts()
        if self.image is not None:
            _check_image(self.image)
        if self.video is not None:
            _check_video(self.video)
        if self.audio is not None:
            _check_waveform("audio", self.audio)
        if self.voice is not None:
            _check_waveform("voice", self.voice)
            if len(self.voice) < MIN_VOICE_S * self.voice_rate_hz:
                seconds = len(self.voice) / self.voice_rate_hz
                raise MediaError(
                    f"the voice lasts {seconds:.2f} s, it needs {MIN_VOICE_S} s or more; record a longer one"
                )
            if not self.voice.any():
                raise MediaError("the voice is silent; record one that can be heard")
        check_arguments(self)

    def _check_numbers(self) -> None:
        check_num_frames(self.num_frames)
        if not _is_integer(self.seed, 0, 2**63 - 1):
            raise ConfigError(f"the seed must be 0 to 2^63 - 1, got {self.seed}")
        if self.size is not None:
            check_size(self.size)
        for name in ("audio_rate_hz", "voice_rate_hz"):
            if not _is_integer(rate := getattr(self, name), MIN_AUDIO_RATE_HZ, MAX_AUDIO_RATE_HZ):
                raise ConfigError(
                    f"{name} must be a whole number, {MIN_AUDIO_RATE_HZ} to {MAX_AUDIO_RATE_HZ}, got {rate}"
                )
        if not isinstance(self.video_fps, int | float | Fraction) or not 1 <= self.video_fps <= MAX_VIDEO_FPS:
            raise ConfigError(f"video_fps must be 1 to {MAX_VIDEO_FPS}, got {self.video_fps}")

    def _check_inputs(self) -> None:
        spec = TASKS[self.task]
        voice_needed = spec.reference_audio is ReferenceAudio.NEEDED
        rules = {
            "image": (spec.video is ModalityRole.GENERATED, spec.video is ModalityRole.GENERATED),
            "video": (spec.video is not ModalityRole.GENERATED, spec.video is not ModalityRole.GENERATED),
            "audio": (spec.audio is not ModalityRole.GENERATED, spec.audio is not ModalityRole.GENERATED),
            "voice": (voice_needed, spec.reference_audio is not ReferenceAudio.NONE),
        }
        for name, (needed, allowed) in rules.items():
            given, article = getattr(self, name) is not None, "an" if name in ("audio", "image") else "a"
            if needed and not given:
                raise ConfigError(f"the task '{self.task}' needs {article} {name}; give one")
            if given and not allowed:
                raise ConfigError(f"the task '{self.task}' takes no {name}; leave it out or choose another task")

    def _check_texts(self) -> None:
        for name in ("caption", "speech", "voice_text"):
            _check_text(name.replace("_", " "), getattr(self, name))
        is_spoken = TASKS[self.task].audio is not ModalityRole.GIVEN
        if is_spoken and not self.speech.strip():
            raise ConfigError("the speech is empty; give the sentence to be said")
        if self.voice is not None and not self.voice_text.strip():
            raise ConfigError("the voice has no transcript; give what is said in it as voice text")
        if self.voice is None and self.voice_text.strip():
            raise ConfigError("there is a voice text but no voice; give the recording too or leave the text out")


def check_num_frames(num_frames: int) -> None:
    """Raises ConfigError for a length that no clip has."""
    if not _is_integer(num_frames, MIN_FRAMES, MAX_FRAMES):
        raise ConfigError(f"num_frames must be {MIN_FRAMES} to {MAX_FRAMES}, got {num_frames}")
    Timebase().clip(num_frames)


def check_size(size: tuple[int, int]) -> None:
    """Raises ConfigError for a size that no model can generate."""
    if not isinstance(size, tuple) or len(size) != 2 or not all(_is_integer(side, 1, MAX_SIDE_PX) for side in size):
        raise ConfigError(f"the size is a width and a height of 1 to {MAX_SIDE_PX} px, got {size}")


def _is_integer(value: object, minimum: int, maximum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise ConfigError(f"the {name} must be a text, got {text!r}")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"the {name} has {len(text)} characters, at most {MAX_CHARACTERS} are read; shorten it")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        # Half of a surrogate pair: what a byte of a command line that is no UTF-8 becomes.
        raise ConfigError(f"the {name} holds bytes that are not UTF-8 text; write it anew")


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise MediaError(f"an image is uint8 of height x width x 3, got {_described(image)}; convert it to RGB")
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise MediaError(f"the image is {_shape(image)}; each side needs {MIN_SIDE_PX} px or more; use a larger one")


def _check_video(video: np.ndarray) -> None:
    if not isinstance(video, np.ndarray) or video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3:
        raise MediaError(f"a video is uint8 of frames x height x width x 3, got {_described(video)}; convert it to RGB")
    if min(video.shape[1:3]) < MIN_SIDE_PX:
        raise MediaError(f"the video is {_shape(video)}; each side needs {MIN_SIDE_PX} px or more; use a larger one")


def _check_waveform(name: str, waveform: np.ndarray) -> None:
    if not isinstance(waveform, np.ndarray) or waveform.dtype != np.float32 or waveform.ndim != 1:
        raise MediaError(f"the {name} must be mono float32, got {_described(waveform)}; mix and convert it")
    if not len(waveform):
        raise MediaError(f"the {name} is empty; give one that can be heard")
    if not np.isfinite(waveform).all():
        raise MediaError(f"the {name} holds values that are no numbers; convert it again")


def _described(value: object) -> str:
    return f"{value.dtype} of {_shape(value)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _shape(array: np.ndarray) -> str:
    return "x".join(str(size) for size in array.shape) or "one number"
