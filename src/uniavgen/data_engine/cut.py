"""Clips out of sources: frames at one rate by time stamps, sound to the sample, and where the face is."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw

from uniavgen.artifacts import checksum
from uniavgen.data_engine.source import SourceVideo, content_key
from uniavgen.errors import DataError
from uniavgen.media.audio import read_audio
from uniavgen.media.packing import encode_flac, encode_mp4
from uniavgen.media.video import read_video
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_mesh import MESH_NETWORKS, FaceLandmarks, FaceMesh, mouth_opening
from uniavgen.perception.face_tracker import MASK_ABOVE_MESH, MASK_OVER_MESH
from uniavgen.perception.weights import ResolvedWeights
from uniavgen.timebase import ClipTiming

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of the picture."""
WHOLE: Final[Box] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class PlannedClip:
    """A clip that is to be cut."""

    key: str
    source: SourceVideo
    start_frame: int
    """Counted at the clip's rate from the time at which the source begins to play."""
    sound_offset_s: float
    """How much later the sound that belongs to the pictures is read."""
    crop: Box
    facts: Mapping[str, Any]
    """What KEY.json says besides what is found when the clip is cut."""


@dataclass(frozen=True, kw_only=True)
class ClipCutter:
    """Cuts clips as parts of a shard's sample: KEY.json, KEY.mp4, KEY.flac, and KEY.npz where the mesh is at hand."""

    timing: ClipTiming
    short_side_px: int
    """Larger pictures are scaled down to this shorter side."""
    weights: Mapping[str, ResolvedWeights] = field(default_factory=dict)
    """Those of the face mesh, or none."""

    def __call__(self, plan: PlannedClip) -> dict[str, bytes]:
        """Returns the parts of a clip. Raises DataError or MediaError where its source does not give them."""
        if content_key(plan.source.path) != plan.source.key:
            raise DataError(f"{plan.source.path} has changed; run the stages on it again")
        frames, waveform = self._frames(plan), self._waveform(plan)
        rate_hz, fps = self.timing.base.sample_rate_hz, self.timing.base.fps
        facts = dict(plan.facts) | {"width_px": frames.shape[2], "height_px": frames.shape[1]}
        facts["source"] = {**facts["source"], "sha256": _checksum_of(plan.source.path, plan.source.key)}
        parts = {
            "mp4": encode_mp4(frames, int(fps), waveform, rate_hz),
            "flac": encode_flac(waveform, rate_hz),
        }
        try:
            parts["npz"] = self._face_arrays(frames)
        except NotMeasured as reason:
            facts["face_mask_reason"] = str(reason)
        return {"json": json.dumps(facts, ensure_ascii=False, sort_keys=True).encode(), **parts}

    def _frames(self, plan: PlannedClip) -> UInt8[np.ndarray, "F H W 3"]:
        """Returns exactly the clip's frames, without black bars, with even sides."""
        frames = read_video(
            plan.source.path,
            self.timing.base.fps,
            max_frames=self.timing.num_frames,
            start_frame=plan.start_frame,
            trim=True,
            short_side_px=self.short_side_px,
        ).frames
        if len(frames) != self.timing.num_frames:
            raise DataError(f"only {len(frames)} of {self.timing.num_frames} frames can be read there")
        height, width = frames.shape[1:3]
        left, right = round(plan.crop[0] * width), round(plan.crop[2] * width)
        top, bottom = round(plan.crop[1] * height), round(plan.crop[3] * height)
        return frames[:, top : bottom - (bottom - top) % 2, left : right - (right - left) % 2]

    def _waveform(self, plan: PlannedClip) -> Float32[np.ndarray, " samples"]:
        """Returns sound of exactly the pictures' length; the last half frame may be silence that the source lacks."""
        base = self.timing.base
        num_samples = round(self.timing.duration_s * base.sample_rate_hz)
        start = round((plan.start_frame / base.fps + Fraction(plan.sound_offset_s)) * base.sample_rate_hz)
        waveform = read_audio(
            plan.source.path,
            base.sample_rate_hz,
            start_s=start / base.sample_rate_hz,
            max_s=num_samples / base.sample_rate_hz,
            trim=True,
        )[:num_samples]
        missing = num_samples - len(waveform)
        if missing * 2 * base.fps > base.sample_rate_hz:
            raise DataError(f"the sound ends {missing / base.sample_rate_hz:.2f} s before the pictures do")
        return np.pad(waveform, (0, missing))

    def _face_arrays(self, frames: UInt8[np.ndarray, "F H W 3"]) -> bytes:
        """Returns the npz of a clip's face. Raises NotMeasured unless one face is seen in nearly all frames."""
        if self._mesh is None:
            raise NotMeasured("the face mesh is not at hand")
        landmarks = self._mesh.landmarks(frames)
        landmarks.check()
        masks = face_masks(landmarks, frames.shape[1:3])
        content = io.BytesIO()
        np.savez_compressed(
            content,
            face_mask=np.packbits(masks),
            face_mask_shape=np.array(masks.shape, np.int64),
            mouth_opening=mouth_opening(landmarks).astype(np.float32),
        )
        return content.getvalue()

    @cached_property
    def _mesh(self) -> FaceMesh | None:
        return FaceMesh(self.weights) if self.weights.keys() >= {*MESH_NETWORKS} else None


@lru_cache(maxsize=64)
def _checksum_of(path: Path, key: str) -> str:
    """Returns the SHA-256 of a whole source, which many clips share; read anew where its content is another."""
    del key
    return checksum(path)


def face_masks(landmarks: FaceLandmarks, size: tuple[int, int]) -> Bool[np.ndarray, "F H W"]:
    """Returns the convex hull of the mesh in each frame, as large and as high as masks of the rendered world are."""
    from scipy.spatial import ConvexHull

    height, width = size
    masks = np.zeros((len(landmarks.points), height, width), bool)
    for mask, points, box in zip(masks, landmarks.points, landmarks.boxes, strict=True):
        middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        if min(sides) <= 1:
            continue
        scaled = middle + (points - middle) * MASK_OVER_MESH
        scaled[:, 1] -= MASK_ABOVE_MESH * MASK_OVER_MESH * float(np.sqrt(np.prod(sides)))
        outline = Image.new("1", (width, height))
        ImageDraw.Draw(outline).polygon([tuple(point) for point in scaled[ConvexHull(scaled).vertices]], fill=1)
        mask[:] = np.asarray(outline)
    return masks
