"""What a user asks for. A request that can be constructed has nothing wrong that can be known without a model."""

import math
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from uniavgen.batch import AVPair
from uniavgen.config import Config
from uniavgen.errors import ConfigError, MediaError
from uniavgen.flow.guidance import GUIDANCE, PAPER, RELEASE, Guidance, GuidancePlan, skipping
from uniavgen.flow.schedule import ScheduleConfig, Spacing
from uniavgen.flow.solver import SolverKind
from uniavgen.tasks.conditioning import ReferenceTime
from uniavgen.tasks.table import TASKS, Part, Reference, Task
from uniavgen.timebase import Source, Timebase

if TYPE_CHECKING:
    from uniavgen.codecs.speech_symbols import SpeechSymbols

MIN_SIDE_PX = 16
MIN_FRAMES, MAX_FRAMES = 5, 1025
"""Clip lengths that make sense to a model trained on 81. [ours]"""
MAX_STEPS, MAX_SCALE = 1000, 20.0
MIN_VOICE_S = 0.5
MAX_VOICE_S = 81 / Timebase.fps
"""As long as the paper's clip, however long the clip to be made is. [release]"""
MAX_CAPTION_CHARACTERS = 4000
MAX_CHARACTERS_PER_S = 40
"""Nobody speaks faster; normal English is 15."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How a clip is sampled. A saved pipeline carries its own."""

    steps: int = 50
    """[release]"""
    guidance: str | None = None
    """Name in `flow.guidance.GUIDANCE`; None is the source's own (`guidance_name`)."""
    video_guidance: float = 3.0
    """s_v. [paper 4.1]"""
    audio_guidance: float = 2.0
    """s_a. [paper 4.1]"""
    shift: float = 5.0
    """[release]"""
    spacing: Spacing = Spacing.LINSPACE
    solver: SolverKind = SolverKind.EULER
    source: Source = Source.PAPER
    """Whose sampling, where paper and release differ: gates with reference audio (`TaskSpec.release_gate`), and the
    guidance where none is named. How tokens are aligned is part of the weights (`InteractionConfig`)."""
    reference_time: ReferenceTime = ReferenceTime.NOISY
    skip_layers: tuple[int, ...] = ()
    """Blocks skipped in the passes guided against, beside what the guidance says."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS:
            raise ConfigError(f"steps must be 1 to {MAX_STEPS}, got {self.steps}")
        if self.guidance is not None and self.guidance not in GUIDANCE:
            raise ConfigError(f"there is no guidance '{self.guidance}'; choose one of {', '.join(GUIDANCE)}")
        for name in ("video_guidance", "audio_guidance"):
            scale = getattr(self, name)
            if not 0 <= scale <= MAX_SCALE:
                raise ConfigError(f"{name} must be 0 to {MAX_SCALE:g} (1 is no guidance), got {scale}")
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise ConfigError(f"shift must be above 0, got {self.shift}")

    def plan(self, task: Task) -> GuidancePlan:
        """The guidance of a task's sampling."""
        spec = TASKS[task]
        return GuidancePlan(
            guidance=self._guidance(),
            scale=AVPair(video=self.video_guidance, audio=self.audio_guidance),
            conditional_gate=spec.conditional_gate(self.source),
            null_gate=spec.gate,
        )

    @property
    def schedule(self) -> ScheduleConfig:
        """Where the steps stand."""
        return ScheduleConfig(shift=self.shift, spacing=self.spacing)

    @property
    def guidance_name(self) -> str:
        return self.guidance or {Source.PAPER: PAPER, Source.RELEASE: RELEASE}[self.source]

    def _guidance(self) -> Guidance:
        guidance = GUIDANCE[self.guidance_name]
        return skipping(guidance, self.skip_layers) if self.skip_layers else guidance


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to be made. Which inputs a task takes follows from `tasks.TASKS`:

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
    """What is said; in a continuation all of it, the given part included."""
    caption: str = ""
    """What is seen."""
    image: np.ndarray | None = None
    """uint8 `height width 3`, RGB."""
    video: np.ndarray | None = None
    """uint8 `frames height width 3`, RGB."""
    video_fps: Fraction = Timebase.fps
    """Rate of `video`; it is brought to the model's."""
    audio: np.ndarray | None = None
    """Mono float32 in [-1, 1]: the driving sound, or that of the given video."""
    audio_rate_hz: int = Timebase.sample_rate_hz
    voice: np.ndarray | None = None
    """Mono float32 in [-1, 1]: a recording of the wanted voice."""
    voice_rate_hz: int = Timebase.sample_rate_hz
    voice_text: str = ""
    """What is said in `voice`."""
    num_frames: int = 81
    """Length of the clip, 1 + 4n; dubbing makes it as short as its video."""
    size: tuple[int, int] | None = None
    """Width and height of the clip in pixels, whole tokens each; None is the image's shape at the model's size."""
    trim: bool = False
    """Cut inputs that are too long instead of refusing them."""
    seed: int = 0

    steps: int | None = None
    guidance: str | None = None
    video_guidance: float | None = None
    audio_guidance: float | None = None
    shift: float | None = None
    spacing: Spacing | None = None
    solver: SolverKind | None = None
    source: Source | None = None
    """None takes the model's own setting (`SamplingConfig`)."""

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_inputs()
        self._check_texts()
        if self.image is not None:
            _check_image(self.image)
        if self.video is not None:
            _check_video(self.video)
        if self.audio is not None:
            _check_sound("audio", self.audio)
        if self.voice is not None:
            _check_sound("voice", self.voice)
            if len(self.voice) < MIN_VOICE_S * self.voice_rate_hz:
                seconds = len(self.voice) / self.voice_rate_hz
                raise MediaError(
                    f"the voice lasts {seconds:.2f} s, it needs {MIN_VOICE_S} s or more; record a longer one"
                )
            if not self.voice.any():
                raise MediaError("the voice is silent; record one that can be heard")
        self.sampling(SamplingConfig())

    def sampling(self, model: SamplingConfig) -> SamplingConfig:
        """The model's settings with this request's in their place."""
        names = {field.name for field in fields(SamplingConfig)} & {field.name for field in fields(self)}
        asked = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(model, **asked)

    def _check_numbers(self) -> None:
        if not MIN_FRAMES <= self.num_frames <= MAX_FRAMES:
            raise ConfigError(f"num_frames must be {MIN_FRAMES} to {MAX_FRAMES}, got {self.num_frames}")
        Timebase().clip(self.num_frames)
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"the seed must be 0 to 2^63 - 1, got {self.seed}")
        for name in ("video_fps", "audio_rate_hz", "voice_rate_hz"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")

    def _check_inputs(self) -> None:
        spec = TASKS[self.task]
        voice_needed = spec.reference_audio is Reference.NEEDED
        rules = {
            "image": (spec.video is Part.GENERATED, spec.video is Part.GENERATED),
            "video": (spec.video is not Part.GENERATED, spec.video is not Part.GENERATED),
            "audio": (spec.audio is not Part.GENERATED, spec.audio is not Part.GENERATED),
            "voice": (voice_needed, spec.reference_audio is not Reference.NONE),
        }
        for name, (needed, taken) in rules.items():
            given, article = getattr(self, name) is not None, "an" if name in ("audio", "image") else "a"
            if needed and not given:
                raise ConfigError(f"the task '{self.task}' needs {article} {name}; give one")
            if given and not taken:
                raise ConfigError(f"the task '{self.task}' takes no {name}; leave it out or choose another task")

    def _check_texts(self) -> None:
        is_spoken = TASKS[self.task].audio is not Part.GIVEN
        if is_spoken and not self.speech.strip():
            raise ConfigError("the speech is empty; give the sentence to be said")
        if self.voice is not None and not self.voice_text.strip():
            raise ConfigError("the voice has no transcript; give what is said in it as voice text")
        if self.voice is None and self.voice_text.strip():
            raise ConfigError("there is a voice text but no voice; give the recording too or leave the text out")
        if len(self.caption) > MAX_CAPTION_CHARACTERS:
            raise ConfigError(
                f"the caption has {len(self.caption)} characters, at most {MAX_CAPTION_CHARACTERS} are read; shorten it"
            )
        seconds = float(Timebase().clip(self.num_frames).duration_s)
        limit = int(seconds * MAX_CHARACTERS_PER_S)
        if len(self.speech) > limit:
            raise ConfigError(
                f"the speech has {len(self.speech)} characters, {seconds:.2f} s hold at most {limit}; shorten it"
            )


def check_symbols(request: Request, symbols: "SpeechSymbols") -> None:
    """ConfigError for characters of the request's texts that a model with these symbols cannot say."""
    for name, text in (("speech", request.speech), ("voice text", request.voice_text)):
        unknown = symbols.unknown(text)
        if unknown:
            shown = " ".join(repr(symbol) for symbol in unknown)
            raise ConfigError(
                f"the {name} has characters this model cannot say: {shown}; spell them out or leave them out"
            )


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise MediaError(
            f"an image is uint8 of height x width x 3, got {image.dtype} of {_shape(image)}; convert it to RGB"
        )
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise MediaError(f"the image is {_shape(image)}; each side needs {MIN_SIDE_PX} px or more; use a larger one")


def _check_video(video: np.ndarray) -> None:
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3:
        raise MediaError(
            f"a video is uint8 of frames x height x width x 3, got {video.dtype} of {_shape(video)}; convert it to RGB"
        )
    if min(video.shape[1:3]) < MIN_SIDE_PX:
        raise MediaError(f"the video is {_shape(video)}; each side needs {MIN_SIDE_PX} px or more; use a larger one")


def _check_sound(name: str, sound: np.ndarray) -> None:
    if sound.dtype != np.float32 or sound.ndim != 1:
        raise MediaError(f"the {name} must be mono float32, got {sound.dtype} of {_shape(sound)}; mix and convert it")
    if not len(sound):
        raise MediaError(f"the {name} is empty; give one that can be heard")
    if not np.isfinite(sound).all():
        raise MediaError(f"the {name} holds values that are no numbers; convert it again")


def _shape(array: np.ndarray) -> str:
    return "x".join(str(size) for size in array.shape) or "one number"
