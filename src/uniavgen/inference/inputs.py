"""Brings the inputs of a request to a model's rates and sizes: plain arrays, no networks, all rules of length.

Letters: F pixel frames of the given video, h w pixels.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float32, UInt8

from uniavgen.errors import ConfigError, MediaError
from uniavgen.inference.crossfade import is_silent
from uniavgen.inference.request import MAX_VOICE_S, MIN_FRAMES, Request
from uniavgen.inference.resize import ResizeRule, resize
from uniavgen.media.video import resample_frames
from uniavgen.tasks.given_lengths import given_lengths, half_of_clip, reference_silence_samples
from uniavgen.tasks.table import TASKS, ModalityRole
from uniavgen.timebase import ClipTiming, Timebase


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Frames and waveforms for the codecs."""

    timing: ClipTiming
    """Lengths of the clip to generate."""
    frames: UInt8[np.ndarray, "F h w 3"]
    """The given video, or the image alone."""
    audio: Float32[np.ndarray, " samples"] | None
    """The given waveform; where all audio is given, exactly as long as the clip."""
    given_tokens: int
    """Leading audio tokens that are given."""
    voice: Float32[np.ndarray, " voice_samples"] | None
    """The reference audio with its silence."""

    @property
    def starts_silent(self) -> bool:
        """Whether only a beginning of the audio is given, and it holds no speech (`crossfade.is_silent`)."""
        return self.audio is not None and self.given_tokens < self.timing.num_audio_tokens and is_silent(self.audio)


def prepare_inputs(request: Request, base: Timebase, size: ResizeRule) -> ModelInputs:
    """Converts the inputs of a request: frames resized and at the model's rate, audio resampled, cut and padded.

    Raises MediaError for inputs that are too long or too short, ConfigError where there is no image and no video.
    """
    timing = base.clip(request.num_frames)
    spec = TASKS[request.task]
    if request.image is not None:
        frames = request.image[None]
    elif request.video is not None:
        frames = resample_frames(request.video, request.video_fps, base.fps)
        frames = frames[: _video_length(request, frames.shape[0], timing, spec.video)]
        timing = base.clip(len(frames)) if spec.video is ModalityRole.GIVEN else timing
    else:
        raise ConfigError("a request has an image or a video; give one")
    given_tokens = given_lengths(spec, timing, prefix_frames=base.latent_frames(len(frames))).audio_tokens
    audio = None if request.audio is None else resample(request.audio, request.audio_rate_hz, base.sample_rate_hz)
    return ModelInputs(
        timing=timing,
        frames=resize(frames, size),
        audio=None if audio is None else _given_audio(request, audio, timing, given_tokens),
        given_tokens=given_tokens,
        voice=None if request.voice is None else _voice(request, request.voice, base),
    )


def resample(
    waveform: Float32[np.ndarray, " samples"], rate_hz: int, target_hz: int
) -> Float32[np.ndarray, " samples2"]:
    """Returns the waveform at another rate, band-limited."""
    if rate_hz == target_hz:
        return waveform
    from scipy.signal import resample_poly  # half a second to import, and most clips are given no waveform

    ratio = Fraction(target_hz, rate_hz)
    return resample_poly(waveform, ratio.numerator, ratio.denominator).astype(np.float32)


def _video_length(request: Request, available: int, timing: ClipTiming, role: ModalityRole) -> int:
    """Returns how many frames of the given video are used: the largest 1 + 4n that is available and allowed.

    Raises MediaError for a video that is too short, or too long to be given without `trim`.
    """
    stride = timing.base.temporal_stride
    max_frames = timing.num_frames if role is ModalityRole.GIVEN else timing.num_frames - stride
    min_frames = MIN_FRAMES if role is ModalityRole.GIVEN else 1
    seconds, max_s = float(available / timing.base.fps), float(max_frames / timing.base.fps)
    if available < min_frames:
        min_s = float(min_frames / timing.base.fps)
        raise MediaError(f"the video lasts {seconds:.2f} s, it needs {min_s:.2f} s or more; use a longer one")
    if available > max_frames and not request.trim:
        raise MediaError(
            f"the video lasts {seconds:.2f} s, at most {max_s:.2f} s can be given; cut it or ask to trim it"
        )
    if available > max_frames and role is ModalityRole.PREFIX:
        max_frames = timing.base.frames_in(half_of_clip(timing))
    used = min(available, max_frames)
    return used - (used - 1) % stride


def _given_audio(
    request: Request, audio: Float32[np.ndarray, " samples"], timing: ClipTiming, given_tokens: int
) -> Float32[np.ndarray, " samples2"]:
    """Returns the given waveform, cut or padded to the clip where all of the clip's audio is given.

    Raises MediaError where it is shorter than the given video, or longer than the clip without `trim`.
    """
    base = timing.base
    seconds, needed = len(audio) / base.sample_rate_hz, given_tokens * base.hop
    if given_tokens < timing.num_audio_tokens:
        if len(audio) < needed:
            needed_s = needed / base.sample_rate_hz
            raise MediaError(
                f"the given sound lasts {seconds:.2f} s but its video {needed_s:.2f} s; give all of the sound"
            )
        return audio
    # Half a frame more than the clip is what rounding in containers makes of a clip's own sound.
    limit_s = timing.duration_s + Fraction(1, 2) / base.fps
    if seconds > limit_s and not request.trim:
        raise MediaError(
            f"the sound lasts {seconds:.2f} s, the clip {float(timing.duration_s):.2f} s; cut it or ask to trim it"
        )
    return np.pad(audio[:needed], (0, max(needed - len(audio), 0)))


def _voice(
    request: Request, recording: Float32[np.ndarray, " samples"], base: Timebase
) -> Float32[np.ndarray, " voice_samples"]:
    """Returns the reference voice at the model's rate, with the silence behind it that separates it from the clip.

    Raises MediaError where it is longer than MAX_VOICE_S without `trim`.
    """
    voice = resample(recording, request.voice_rate_hz, base.sample_rate_hz)
    max_samples = int(MAX_VOICE_S * base.sample_rate_hz)
    if len(voice) > max_samples and not request.trim:
        raise MediaError(
            f"the voice lasts {len(voice) / base.sample_rate_hz:.2f} s, at most {float(MAX_VOICE_S):.2f} s "
            "are used; cut it together with its text, or ask to trim it"
        )
    return np.pad(voice[:max_samples], (0, reference_silence_samples(base)))
