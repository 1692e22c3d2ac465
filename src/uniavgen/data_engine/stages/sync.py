"""How far sound and picture are apart: one offset for the whole source, and how well each segment agrees with it.

A single clip of a few seconds says little. The reader's distance curves of all segments are averaged first, since a
file has one offset, whoever speaks in it.

Letters: k shifts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from uniavgen.config import Config
from uniavgen.config.values import NonNegative, Positive, PositiveInt
from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.face_crops import face_crops
from uniavgen.data_engine.segment import segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.audio_stream import cut_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES
from uniavgen.perception.face_tracker import FaceTracker
from uniavgen.perception.lip_sync import (
    MAX_SHIFT,
    STEPS_PER_S,
    LipSyncEncoder,
    compare_streams,
    parabola_vertex,
)
from uniavgen.perception.sound import SPEECH_RATE_HZ

Curve = Float[np.ndarray, " k"]
_STEP_MS = 1000 / STEPS_PER_S
_OFFSETS_MS = -_STEP_MS * np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
"""Of the values of a curve; positive where the sound comes too early."""


@dataclass(frozen=True, kw_only=True)
class SyncConfig(Config):
    """Settings of `SyncStage`."""

    fps: Positive = 16.0
    """Frames a second that are read. [ours: those that the reader was trained on]"""
    short_side_px: PositiveInt = 720
    """Of these frames, before the face is cut out."""
    margin: NonNegative = 0.6
    """Picture around a face, in sizes of its box, in which the mesh looks for it. [ours]"""
    max_side_px: PositiveInt = 320
    """Of that picture."""
    max_offset_ms: Positive = 240.0
    """Larger offsets are not looked for. [ours]"""
    tolerance_ms: NonNegative = 60.0
    """How far the best shift of a segment that agrees may lie from the source's offset. [ours]"""


class SyncStage(Stage):
    """Finds the offset of a source.

    Values: offset_ms, how much too early the sound comes, None where no segment can be measured; confidence, how far
    the averaged curve lies below its median there; measured_s, length of the segments that were averaged; segments
    (offset_ms and confidence of its own curve; agreement, how far that lies below its median near the source's offset;
    or the reason why it cannot be measured).
    Arrays: distances (segments x shifts from -500 to 500 ms), NaN where there is a reason.
    """

    name = "sync"
    requires = ("faces", "segments")
    required_networks = MESH_NETWORKS
    packages = MESH_PACKAGES
    settings_class = SyncConfig
    settings: SyncConfig

    def setup(self) -> None:
        self._faces = FaceTracker(self.context.weights)
        self._encoder = LipSyncEncoder.load()

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments = segments_of(inputs["segments"])
        stretches = [(segment.start_s, segment.end_s) for segment in segments]
        curves: list[Curve | str] = []
        with open_media(source.path, quiet=True) as pictures, open_media(source.path, quiet=True) as sound:
            crops = face_crops(
                pictures,
                segments,
                FaceBoxes.of(inputs["faces"].arrays),
                [max(round(segment.length_s * self.settings.fps), 1) for segment in segments],
                short_side_px=self.settings.short_side_px,
                margin=self.settings.margin,
                max_side_px=self.settings.max_side_px,
            )
            for frames, waveform in zip(crops, cut_audio(sound, SPEECH_RATE_HZ, stretches), strict=True):
                try:
                    curves.append(self._curve(frames, waveform))
                except NotMeasured as reason:
                    curves.append(str(reason))
        return sync_output(curves, [segment.length_s for segment in segments], self.settings)

    def _curve(self, frames: UInt8[np.ndarray, "F h w 3"], waveform: Float[np.ndarray, " samples"]) -> Curve:
        if not len(frames):
            raise NotMeasured("the face is nowhere to be seen")
        track = self._faces.track(frames, self.settings.fps)
        lips = self._encoder.embed_video(frames, self.settings.fps, track)
        return compare_streams(lips, self._encoder.embed_waveform(waveform)).distances


def sync_output(curves: Sequence[Curve | str], lengths_s: Sequence[float], settings: SyncConfig) -> StageOutput:
    """Returns the output for the distance curve of each segment, or the reason why it has none."""
    table = np.full((len(curves), 2 * MAX_SHIFT + 1), np.nan, np.float32)
    for index, curve in enumerate(curves):
        if not isinstance(curve, str):
            table[index] = curve
    measured = ~np.isnan(table[:, 0])
    if not measured.any():
        values: dict[str, Any] = {"offset_ms": None, "confidence": None, "measured_s": 0.0}
        return StageOutput(
            values=values | {"segments": list(_rows(curves, 0.0, settings))}, arrays={"distances": table}
        )
    lengths = np.array(lengths_s)[measured]
    offset_ms, depth = best_shift(np.average(table[measured], axis=0, weights=lengths), 0.0, settings.max_offset_ms)
    values = {
        "offset_ms": round(offset_ms, 1),
        "confidence": round(depth, 4),
        "measured_s": round(float(lengths.sum()), 2),
    }
    return StageOutput(
        values=values | {"segments": list(_rows(curves, offset_ms, settings))}, arrays={"distances": table}
    )


def _rows(curves: Sequence[Curve | str], offset_ms: float, settings: SyncConfig) -> Iterator[dict[str, float | str]]:
    for curve in curves:
        if isinstance(curve, str):
            yield {"reason": curve}
            continue
        own_ms, confidence = best_shift(curve, 0.0, settings.max_offset_ms)
        _, agreement = best_shift(curve, offset_ms, settings.tolerance_ms)
        yield {
            "offset_ms": round(own_ms, 1),
            "confidence": round(confidence, 4),
            "agreement": round(agreement, 4),
        }


def best_shift(curve: Curve, around_ms: float, within_ms: float) -> tuple[float, float]:
    """Returns the offset in `around_ms` +- `within_ms` at which a curve is least, and how far below its median that is.

    At least the offset nearest to `around_ms` is looked at.
    """
    apart = np.abs(_OFFSETS_MS - around_ms)
    best = int(np.where(apart <= max(within_ms, apart.min()), curve, np.inf).argmin())
    vertex = float(np.clip(parabola_vertex(curve, best), -0.5, 0.5))
    return float(_OFFSETS_MS[best] - _STEP_MS * vertex), float(np.median(curve) - curve[best])
