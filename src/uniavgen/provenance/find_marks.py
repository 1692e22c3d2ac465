"""Looks for the marks in the picture and the sound of a file, by windows, since only a part may have been generated.

Letters: h w pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32

from uniavgen.errors import MediaError
from uniavgen.media.audio import decode_audio
from uniavgen.media.frame_stream import stream_frames
from uniavgen.media.reader import open_media
from uniavgen.provenance.perth_weights import find_perth
from uniavgen.provenance.picture_mark import MIN_SIDE_PX, match_picture, mean_luma
from uniavgen.provenance.sound_mark import RATE_HZ, SCORE_THRESHOLD, sound_score

MAX_S: Final = 60.0
"""Only the beginning of longer files is looked at."""
WINDOW_S: Final = 2.0
SHORT_WINDOWS: Final = 3
SHORT_SIDE_PX: Final = 1088
"""Larger pictures are scaled down; no model here draws larger."""


@dataclass(frozen=True, kw_only=True)
class MarkReport:
    """Whether a track carries the mark."""

    is_found: bool = False
    score: float | None = None
    """Highest score of a window; None where nothing was looked at."""
    share: float = 0.0
    """Part of the windows that carry the mark, of those that were looked at."""
    reason: str = ""
    """Why nothing was looked at."""

    @property
    def text(self) -> str:
        """Returns the finding in words."""
        if self.score is None:
            return f"not looked for: {self.reason}"
        found = f"found in {100 * self.share:.0f} % of it" if self.is_found else "not found"
        return f"{found} (score {self.score:.2f})"


def find_marks(path: Path) -> tuple[MarkReport, MarkReport]:
    """Returns what the first MAX_S of picture and of sound say. Raises MediaError for a file that cannot be read."""
    with open_media(path, quiet=True) as reader:
        has_video, has_audio = reader.video is not None, reader.audio is not None
    picture, sound = MarkReport(reason="there is none"), MarkReport(reason="there is none")
    if has_video:
        picture = _find_in_picture(path)
    if has_audio:
        sound = _find_in_sound(path)
    return picture, sound


def _find_in_picture(path: Path) -> MarkReport:
    try:
        windows = list(_windows(path))
    except MediaError as error:
        return MarkReport(reason=str(error))
    if not windows:
        return MarkReport(reason="no picture can be decoded")
    if min(windows[0].shape) < MIN_SIDE_PX // 2:
        return MarkReport(reason="the picture is too small")
    whole = np.stack(windows).mean(axis=0, dtype=np.float32)
    matches = [match_picture(each) for each in (whole, *windows)]
    best = max(matches, key=lambda match: match.score)
    if not best.is_found:
        # Scaled pictures, whole and in part.
        best = max((match_picture(each, None) for each in _distinct(whole, windows)), key=lambda match: match.score)
        matches = [match_picture(each, best.scale) for each in (whole, *windows)] if best.is_found else [best]
    carrying = [match.is_found for match in matches[1:]]
    share = float(np.mean(carrying)) if carrying else 0.0
    return MarkReport(is_found=best.is_found, score=best.score, share=share or float(best.is_found))


def _distinct(
    whole: Float32[np.ndarray, "h w"], windows: list[Float32[np.ndarray, "h w"]]
) -> list[Float32[np.ndarray, "h w"]]:
    """Returns the pictures in which scales are searched: short clips as a whole, others at both ends too."""
    return [whole] if len(windows) <= SHORT_WINDOWS else [whole, windows[0], windows[-1]]


def _windows(path: Path) -> Iterator[Float32[np.ndarray, "h w"]]:
    """Yields the mean picture of each WINDOW_S."""
    frames: list[Float32[np.ndarray, "h w"]] = []
    end_s = WINDOW_S
    with open_media(path, quiet=True) as reader:
        for shown in stream_frames(reader, SHORT_SIDE_PX):
            if shown.time_s >= MAX_S:
                break
            if shown.time_s >= end_s and frames:
                yield np.stack(frames).mean(axis=0, dtype=np.float32)
                frames, end_s = [], end_s + WINDOW_S
            frames.append(mean_luma(shown.pixels[None]))
    if frames:
        yield np.stack(frames).mean(axis=0, dtype=np.float32)


def _find_in_sound(path: Path) -> MarkReport:
    if find_perth() is None:
        return MarkReport(reason="the package resemble-perth is not installed")
    with open_media(path, quiet=True) as reader:
        try:
            waveform = decode_audio(reader, RATE_HZ, max_s=MAX_S, trim=True)
        except MediaError as error:
            return MarkReport(reason=str(error))
    heard = window_scores(waveform, RATE_HZ)
    if not heard:
        return MarkReport(reason="it is silent, too short, or pure tones")
    return MarkReport(
        is_found=max(heard) > SCORE_THRESHOLD,
        score=max(heard),
        share=float(np.mean([score > SCORE_THRESHOLD for score in heard])),
    )


def window_scores(waveform: Float32[np.ndarray, " samples"], rate_hz: int) -> list[float]:
    """Returns the scores of windows of WINDOW_S, half of it apart, without those that cannot be judged."""
    length = round(WINDOW_S * rate_hz)
    begins = range(0, max(len(waveform) - length // 2, 1), length // 2)
    scores = (sound_score(waveform[begin : begin + length], rate_hz) for begin in begins)
    return [score for score in scores if score is not None]
