"""Lengths as a form tells them, in steps of a quarter of a second, and whether a text is too long for one."""

from typing import Final

from uniavgen.inference.speech_length import fitting_frames, speech_rate
from uniavgen.timebase import Timebase

STEP_S: Final = 0.25
"""A latent frame of video: every step is another length."""


def speech_hint(speech: str, seconds: float | None, longest_s: float) -> tuple[str, float | None]:
    """Returns a warning where a text is too long for the length of a clip, and the length that would fit.

    The warning is empty where it fits, and the length None where no clip may be long enough.
    """
    rate, text = speech_rate(speech), " ".join(speech.split())
    if rate is None or seconds is None or len(text) / rate.fast <= seconds:
        return "", None
    usual_s = len(text) / rate.usual
    warning = f"This takes about {usual_s:.1f} s to say, the clip lasts {seconds:g} s."
    num_frames = fitting_frames(usual_s, Timebase())
    fitting_s = None if num_frames is None else length_s(num_frames)
    if fitting_s is None or fitting_s > longest_s:
        return f"{warning} Clips last at most {longest_s:g} s here; shorten it.", None
    return f"{warning} {fitting_s:g} s would fit.", fitting_s


def length_s(num_frames: int) -> float:
    """Returns the length in the steps of the form that is brought to this number of frames."""
    seconds = float((num_frames - 1) / Timebase().fps)
    return round(seconds / STEP_S) * STEP_S
