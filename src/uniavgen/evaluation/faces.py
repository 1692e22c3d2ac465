"""Faces in a clip: boxes by BlazeFace and 468 landmarks by MediaPipe's face mesh, through LiteRT.

Both networks are Google's (Apache-2.0), as .tflite files. [BlazeFace, arXiv 1907.05047; face mesh, arXiv 1907.06724]

Letters: F frames, H W pixels, p landmarks, n candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.clip import Clip, Kept
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed

DETECTOR, MESH = "face-detector", "face-mesh"
"""Names of the networks."""
SURE = 0.5
"""Scores of a face from here on, for both networks. [MediaPipe's default]"""
SEEN_SHARE = 0.8
"""Share of the frames that must show the face. [ours]"""
SAME_FACE = 0.3
"""Overlap (IoU) of two boxes of one face. [MediaPipe's default]"""
RIVAL = 0.25
"""Area over the largest face's from which another one counts. [ours]"""
STRIDES = (16, 32, 32, 32)
"""Of the detector's anchors, for 256 px. [BlazeFace, back camera]"""
MESH_ROOM = 1.5
"""Side of the square that the mesh looks at over the box's. [MediaPipe]"""

UPPER_LIP, LOWER_LIP, FOREHEAD, CHIN = 13, 14, 10, 152
"""Landmarks: inner lips in the middle, top and bottom of the face."""
EYES_AND_NOSE = (263, 362, 33, 133, 2)
"""Landmarks: outer and inner corner of the left eye, of the right eye, and below the nose."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, kw_only=True)
class FaceTrack:
    """The one face of a clip, frame by frame."""

    landmarks: Float[np.ndarray, "F p 2"]
    """x and y in pixels; of the frame before where a frame shows no face."""
    seen: Bool[np.ndarray, " F"]
    num_faces: int
    """Most faces that a tenth of the frames show."""

    @property
    def is_seen(self) -> bool:
        """Whether nearly all frames show a face."""
        return bool(self.seen.mean() >= SEEN_SHARE)

    def check(self) -> None:
        """NotMeasured unless there is one face, and nearly always."""
        if self.num_faces > 1:
            raise NotMeasured(f"{self.num_faces} faces are seen; whose voice it is cannot be known")
        if not self.is_seen:
            share = float(self.seen.mean())
            raise NotMeasured(f"a face is seen in {share:.0%} of the frames only" if share else "no face is seen")

    @property
    def heights(self) -> Float[np.ndarray, " F"]:
        """Forehead to chin in pixels."""
        return np.linalg.norm(self.landmarks[:, FOREHEAD] - self.landmarks[:, CHIN], axis=1)

    @property
    def mouth_opening(self) -> Float[np.ndarray, " F"]:
        """Distance of the inner lips over face height."""
        lips = np.linalg.norm(self.landmarks[:, UPPER_LIP] - self.landmarks[:, LOWER_LIP], axis=1)
        return lips / np.maximum(self.heights, 1e-6)

    @property
    def boxes(self) -> Float[np.ndarray, "F 4"]:
        """Around all landmarks: left, top, right, bottom."""
        return np.concatenate([self.landmarks.min(axis=1), self.landmarks.max(axis=1)], axis=1)


class FaceFinder:
    """Finds and follows the face of a clip. The last clip's is kept, since several metrics ask for it."""

    def __init__(self, found: Mapping[str, Weights]) -> None:
        """`found` holds the two networks."""
        self.networks = {name: found[name] for name in (DETECTOR, MESH)}
        self._kept = Kept[FaceTrack]()

    def track(self, clip: Clip) -> FaceTrack:
        """The face in the clip's own frames; NotMeasured unless there is one."""
        track = self.follow_once(clip)
        track.check()
        return track

    def follow_once(self, clip: Clip) -> FaceTrack:
        """As `follow`; the last clip's is kept."""
        return self._kept.of(clip.frames, lambda: self.follow(clip.frames))

    def follow(self, frames: UInt8[np.ndarray, "F H W 3"]) -> FaceTrack:
        """The largest face, or the one nearest to where it was, in every frame."""
        points, seen, counts = [], [], []
        shown = np.zeros((468, 2))
        for frame in frames:
            boxes = self.detect(frame)
            counts.append(len(boxes))
            score = 0.0
            if boxes:
                at = shown.mean(axis=0) if any(seen) else None
                found, score = self._mesh(frame, _chosen(boxes, at))
                shown = found if score >= SURE else shown
            points.append(shown)
            seen.append(score >= SURE)
        return FaceTrack(
            landmarks=np.stack(points), seen=np.array(seen), num_faces=int(np.quantile(counts, 0.9, method="higher"))
        )

    def detect(self, frame: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Box, float]]:
        """Boxes of faces, largest first, with the angle of the eyes; much smaller ones beside it do not count."""
        size = self._detector.size
        picture, scale, offset = _fitted(frame, size)
        outputs = self._detector(picture)
        regressors = next(out for out in outputs if out.shape[-1] == 16)
        scores = 1 / (1 + np.exp(-np.clip(next(out for out in outputs if out.shape[-1] == 1)[:, 0], -80, 80)))
        candidates = np.flatnonzero(scores >= SURE)
        found = []
        for index in candidates[np.argsort(-scores[candidates])]:
            centre = _ANCHORS[index] * size
            x, y, width, height = regressors[index, :4] + [*centre, 0, 0]
            eyes = regressors[index, 4:8].reshape(2, 2) + centre
            corners = np.array([[x - width / 2, y - height / 2], [x + width / 2, y + height / 2]])
            left, top, right, bottom = ((corners - offset) / scale).ravel().tolist()
            box = (left, top, right, bottom)
            if all(_overlap(box, other) < SAME_FACE for other, _ in found):
                found.append((box, float(np.arctan2(*(eyes[1] - eyes[0])[::-1]))))
        found.sort(key=lambda item: -_area(item[0]))
        return [item for item in found if _area(item[0]) >= RIVAL * _area(found[0][0])]

    @cached_property
    def _detector(self) -> "_LiteRt":
        return _LiteRt(self.networks[DETECTOR].path)

    @cached_property
    def _mesher(self) -> "_LiteRt":
        return _LiteRt(self.networks[MESH].path)

    def _mesh(
        self, frame: UInt8[np.ndarray, "H W 3"], face: tuple[Box, float]
    ) -> tuple[Float[np.ndarray, "p 2"], float]:
        cv2 = _opencv()
        (left, top, right, bottom), angle = face
        size, side = self._mesher.size, MESH_ROOM * max(right - left, bottom - top)
        middle = ((left + right) / 2, (top + bottom) / 2)
        turn = cv2.getRotationMatrix2D(middle, float(np.degrees(angle)), size / side)
        turn[:, 2] += size / 2 - np.array(middle)
        outputs = self._mesher(cv2.warpAffine(frame, turn, (size, size)).astype(np.float32) / 255)
        points = next(out for out in outputs if out.size == 468 * 3).reshape(468, 3)[:, :2]
        score = next(out for out in outputs if out.size == 1)
        back = cv2.invertAffineTransform(turn)
        return points @ back[:, :2].T + back[:, 2], float(1 / (1 + np.exp(-score.ravel()[0])))


class _LiteRt:
    """A .tflite network with one picture in."""

    def __init__(self, path: Path) -> None:
        package = needed("ai_edge_litert.interpreter", "finding faces", "ai-edge-litert")
        try:
            self._interpreter: Any = package.Interpreter(str(path), num_threads=1)
        except ValueError as error:
            raise CheckpointError(f"{path} is no TensorFlow Lite network ({error}); download it again") from None
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()
        self.size = int(self._input["shape"][1])

    def __call__(self, picture: Float[np.ndarray, "H W 3"]) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input["index"], picture[None].astype(np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"])[0] for output in self._outputs]


def _opencv() -> Any:
    return needed("cv2", "finding faces", "opencv-python-headless")


def _anchors() -> Float[np.ndarray, "n 2"]:
    """Centres of the detector's candidates in shares of the picture: two at every place for every layer of a stride."""
    places = []
    for stride in dict.fromkeys(STRIDES):
        side = 256 // stride
        centres = (np.arange(side) + 0.5) / side
        grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
        places.append(grid.repeat(2 * STRIDES.count(stride), axis=0))
    return np.concatenate(places)


_ANCHORS = _anchors()


def _fitted(
    frame: UInt8[np.ndarray, "H W 3"], size: int
) -> tuple[Float[np.ndarray, "size size 3"], float, Float[np.ndarray, " 2"]]:
    """The frame in the middle of a black square, in [-1, 1], and how to get back: (place - offset) / scale."""
    height, width = frame.shape[:2]
    scale = size / max(height, width)
    small = _opencv().resize(frame, (max(int(width * scale), 1), max(int(height * scale), 1)))
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square = np.zeros((size, size, 3), np.float32)
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square / 127.5 - 1, scale, np.array([left, top], np.float64)


def _chosen(boxes: list[tuple[Box, float]], at: np.ndarray | None) -> tuple[Box, float]:
    if at is None:
        return boxes[0]
    return min(
        boxes, key=lambda item: np.hypot((item[0][0] + item[0][2]) / 2 - at[0], (item[0][1] + item[0][3]) / 2 - at[1])
    )


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _overlap(a: Box, b: Box) -> float:
    shared = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return shared / max(_area(a) + _area(b) - shared, 1e-9)
