"""Where one shot ends and the next begins: cuts by scenedetect's detectors, dissolves by what they blend."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, UInt8

from uniavgen.config import Config
from uniavgen.config.values import Factor, NonNegative, Positive, PositiveInt
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.errors import MediaError
from uniavgen.media.frame_stream import stream_frames
from uniavgen.media.reader import open_media
from uniavgen.perception.packages import require

_DISSOLVE_SAMPLES, _DISSOLVE_STEP_S = 13, 0.1
"""Frames, and the time between them, that are looked at together."""

_PACKAGES: Final = {"scenedetect": "scenedetect-headless"}


@dataclass(frozen=True, kw_only=True)
class ShotsConfig(Config):
    """Settings of `ShotsStage`."""

    short_side_px: PositiveInt = 180
    """Of the frames that are compared."""
    max_fps: Positive = 30.0
    """Frames of faster videos are left out, or neighbours would differ less than the detectors expect. [ours]"""
    content: Positive = 27.0
    """Threshold of ContentDetector. [scenedetect's default]"""
    adaptive: Positive = 3.0
    """Threshold of AdaptiveDetector. [scenedetect's default]"""
    dissolve: Positive = 20.0
    """Least mean difference in grey levels of the pictures before and after a dissolve. [ours]"""
    same_scene: Factor = 0.8
    """Correlation of two pictures from which they show one scene in another light. [ours]"""
    blend_residual: Factor = 0.15
    """Most of the difference's energy that a frame of a dissolve may have besides the blend: 0.02 to 0.12 in dissolves
    between people who talk, 0.17 and more where a face that fills the picture turns. [ours, measured]"""
    min_shot_s: NonNegative = 0.4
    """What is shorter is no shot, such as a flash. [ours]"""


class ShotsStage(Stage):
    """Compares neighbouring frames, at a small size.

    Values: shots, a pair of start and end in seconds each; notes.
    """

    name = "shots"
    version = 2
    packages = _PACKAGES
    settings_class = ShotsConfig
    settings: ShotsConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        del inputs
        cuts, dissolves = _CutDetectors(self.settings), _DissolveDetector(self.settings)
        first_s, last_s, length_s = None, None, 0.0
        with open_media(source.path, quiet=True) as reader:
            for frame in stream_frames(reader, self.settings.short_side_px, self.settings.max_fps):
                first_s = frame.time_s if first_s is None else first_s
                length_s = length_s if last_s is None else frame.time_s - last_s
                last_s = frame.time_s
                cuts.push(frame.time_s, frame.pixels)
                dissolves.push(frame.time_s, frame.pixels)
            notes = list(reader.notes)
        if first_s is None or last_s is None:
            raise MediaError(f"{source.path} shows no frame that can be decoded; use another copy")
        changes = [(time_s, time_s) for time_s in cuts.times_s] + dissolves.intervals_s
        shots = _between(changes, first_s, last_s + length_s, self.settings.min_shot_s)
        return StageOutput(values={"shots": shots, "notes": notes})


def _between(changes: list[tuple[float, float]], start_s: float, end_s: float, min_s: float) -> list[list[float]]:
    """Returns what lies between changes, as far as it is at least `min_s` long."""
    shots = []
    for change_s, after_s in [*sorted(changes), (end_s, end_s)]:
        if change_s - start_s >= min_s:
            shots.append([start_s, change_s])
        start_s = max(start_s, after_s)
    return shots


class _CutDetectors:
    """Both detectors, on frames counted from 0; times_s: when the frames after cuts begin."""

    def __init__(self, settings: ShotsConfig) -> None:
        detectors = require("scenedetect.detectors", "finding shots", "scenedetect-headless")
        self._timecode: Any = require("scenedetect.common", "finding shots", "scenedetect-headless").FrameTimecode
        self._detectors = [
            detectors.ContentDetector(threshold=settings.content, min_scene_len=0),
            detectors.AdaptiveDetector(adaptive_threshold=settings.adaptive, min_scene_len=0),
        ]
        # AdaptiveDetector answers a few frames late.
        self._recent: deque[tuple[int, float]] = deque(maxlen=64)
        self._count = 0
        self.times_s: set[float] = set()

    def push(self, time_s: float, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Takes the next frame."""
        self._recent.append((self._count, time_s))
        # The rate only turns counts into the detectors' timecodes and back.
        timecode = self._timecode(self._count, fps=25.0)
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        times = dict(self._recent)
        for detector in self._detectors:
            self.times_s.update(times[cut.frame_num] for cut in detector.process_frame(timecode, bgr))
        self._count += 1


class _DissolveDetector:
    """Finds intervals in which every frame is a blend of the first and the last one, which differ much.

    For a dissolve from a to b a frame between is (1 - w) a + w b; things that move leave a residual instead.
    """

    def __init__(self, settings: ShotsConfig) -> None:
        self._settings = settings
        self._window: deque[tuple[float, Float32[np.ndarray, "h w"]]] = deque(maxlen=_DISSOLVE_SAMPLES)
        self.intervals_s: list[tuple[float, float]] = []

    def push(self, time_s: float, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Takes the next frame."""
        if self._window and time_s < self._window[-1][0] + 0.9 * _DISSOLVE_STEP_S:
            return
        self._window.append((time_s, _coarse(pixels)))
        if len(self._window) == _DISSOLVE_SAMPLES:
            self.intervals_s += self._blended()

    def _blended(self) -> list[tuple[float, float]]:
        """Returns the interval of a dissolve from the first to the last frame, if there is one."""
        first, last = self._window[0][1], self._window[-1][1]
        difference = last - first
        if np.abs(difference).mean() < self._settings.dissolve or _alike(first, last) > self._settings.same_scene:
            return []
        energy = float((difference**2).sum())
        shares = []
        for _, frame in self._window:
            share = float(((frame - first) * difference).sum()) / energy
            if float(((frame - first - share * difference) ** 2).sum()) > self._settings.blend_residual * energy:
                return []
            shares.append(share)
        # A cut jumps from 0 to 1; a dissolve passes through shares between, in order.
        if min(np.diff(shares)) < -0.1 or not any(0.15 < share < 0.85 for share in shares):
            return []
        before = max(index for index, share in enumerate(shares) if share <= 0.1)
        after = min(index for index, share in enumerate(shares) if share >= 0.9)
        return [(self._window[before][0], self._window[after][0])]


def _coarse(pixels: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "_ _"]:
    """Returns grey levels averaged over squares of a sixtieth of the height: coarser ones take movement for a blend."""
    height, width = pixels.shape[:2]
    side = max(min(height // 60, width), 1)
    grey = pixels[: height // side * side, : width // side * side].mean(axis=2, dtype=np.float32)
    return grey.reshape(height // side, side, width // side, side).mean(axis=(1, 3))


def _alike(a: Float32[np.ndarray, "h w"], b: Float32[np.ndarray, "h w"]) -> float:
    """Returns the correlation of two pictures; 0 where one of them is plain."""
    a, b = a - a.mean(), b - b.mean()
    energy = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / energy if energy > 1e-6 else 0.0
