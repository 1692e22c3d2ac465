"""Landmarks of a face: boxes by BlazeFace and 468 points by MediaPipe's face mesh, through LiteRT.

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
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_track import MIN_VISIBLE_SHARE
from uniavgen.perception.packages import require
from uniavgen.perception.weights import ResolvedWeights

DETECTOR, MESH = "face-detector", "face-mesh"
MESH_NETWORKS = (DETECTOR, MESH)
"""Names of the two networks."""
MESH_PACKAGES = {"ai_edge_litert": "ai-edge-litert", "cv2": "opencv-python-headless"}
"""Module to the name it is installed by."""
MIN_SCORE = 0.5
"""Score of a face, for both networks. [MediaPipe's default]"""
SAME_FACE_IOU = 0.3
"""Overlap of two boxes of one face. [MediaPipe's default]"""
RIVAL_AREA = 0.25
"""Area over the largest face's from which a second one counts. [ours]"""
ANCHOR_STRIDES = (16, 32, 32, 32)
"""Of the detector's anchors, for 256 px. [BlazeFace, back camera]"""
MESH_MARGIN = 1.5
"""Side of the square that the mesh sees over the box's. [MediaPipe]"""
NUM_LANDMARKS = 468

UPPER_LIP, LOWER_LIP, FOREHEAD, CHIN = 13, 14, 10, 152
"""Landmarks: inner lips in the middle, top and bottom of the face."""
EYES_AND_NOSE = (263, 362, 33, 133, 2)
"""Landmarks: outer and inner corner of the left eye, of the right eye, and below the nose."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, kw_only=True)
class FaceLandmarks:
    """Landmarks of the one face of a clip, frame by frame."""

    points: Float[np.ndarray, "F p 2"]
    """x and y in pixels; of the frame before where a frame shows no face."""
    visible: Bool[np.ndarray, " F"]
    num_faces: int
    """90th percentile over the frames of how many faces a frame shows."""

    @property
    def is_visible(self) -> bool:
        """Returns whether nearly all frames show a face."""
        return bool(self.visible.mean() >= MIN_VISIBLE_SHARE)

    def check(self) -> None:
        """Raises NotMeasured unless one face is visible in nearly all frames."""
        if self.num_faces > 1:
            raise NotMeasured(f"{self.num_faces} faces are seen; whose voice it is cannot be known")
        if not self.is_visible:
            share = float(self.visible.mean())
            raise NotMeasured(f"a face is seen in {share:.0%} of the frames only" if share else "no face is seen")

    @property
    def heights(self) -> Float[np.ndarray, " F"]:
        """Returns the distance from forehead to chin in pixels."""
        return np.linalg.norm(self.points[:, FOREHEAD] - self.points[:, CHIN], axis=1)

    @property
    def boxes(self) -> Float[np.ndarray, "F 4"]:
        """Returns the boxes around all landmarks: left, top, right, bottom."""
        return np.concatenate([self.points.min(axis=1), self.points.max(axis=1)], axis=1)


def mouth_opening(landmarks: FaceLandmarks) -> Float[np.ndarray, " F"]:
    """Returns the distance of the inner lips over the height of the face, per frame."""
    lips = np.linalg.norm(landmarks.points[:, UPPER_LIP] - landmarks.points[:, LOWER_LIP], axis=1)
    return lips / np.maximum(landmarks.heights, 1e-6)


@dataclass(frozen=True, kw_only=True)
class DetectedFace:
    """A face of one image: the detector's box and what the mesh says of it."""

    box: Box
    score: float
    """Of the mesh: how sure it is that this is a face, 0 to 1."""
    mouth_opening: float
    """Distance of the inner lips over the height of the face."""


class FaceMesh:
    """Detects the face of every frame and fits the mesh to it."""

    def __init__(self, weights: Mapping[str, ResolvedWeights]) -> None:
        self.networks = {name: weights[name] for name in MESH_NETWORKS}

    def landmarks(self, frames: UInt8[np.ndarray, "F H W 3"]) -> FaceLandmarks:
        """Follows the largest face, or in later frames the one nearest to where it was."""
        points, visible, counts = [], [], []
        current = np.zeros((NUM_LANDMARKS, 2))
        for frame in frames:
            boxes = self.detect(frame)
            counts.append(len(boxes))
            score = 0.0
            if boxes:
                last_centre = current.mean(axis=0) if any(visible) else None
                candidate, score = self._fit_mesh(frame, _nearest(boxes, last_centre))
                current = candidate if score >= MIN_SCORE else current
            points.append(current)
            visible.append(score >= MIN_SCORE)
        return FaceLandmarks(
            points=np.stack(points),
            visible=np.array(visible),
            num_faces=int(np.quantile(counts, 0.9, method="higher")),
        )

    def detect(self, frame: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Box, float]]:
        """Returns the boxes of faces with the angle of the eyes, largest first; much smaller faces do not count."""
        size = self._detector.size
        image, scale, offset = _letterboxed(frame, size)
        outputs = self._detector(image)
        regressors = next(out for out in outputs if out.shape[-1] == 16)
        scores = 1 / (1 + np.exp(-np.clip(next(out for out in outputs if out.shape[-1] == 1)[:, 0], -80, 80)))
        candidates = np.flatnonzero(scores >= MIN_SCORE)
        faces = []
        # Non-maximum suppression: candidates by score, without those that overlap a better one.
        for index in candidates[np.argsort(-scores[candidates])]:
            centre = _ANCHORS[index] * size
            x, y, width, height = regressors[index, :4] + [*centre, 0, 0]
            eyes = regressors[index, 4:8].reshape(2, 2) + centre
            corners = np.array([[x - width / 2, y - height / 2], [x + width / 2, y + height / 2]])
            left, top, right, bottom = ((corners - offset) / scale).ravel().tolist()
            box = (left, top, right, bottom)
            if all(_iou(box, other) < SAME_FACE_IOU for other, _ in faces):
                faces.append((box, float(np.arctan2(*(eyes[1] - eyes[0])[::-1]))))
        faces.sort(key=lambda face: -_area(face[0]))
        return [face for face in faces if _area(face[0]) >= RIVAL_AREA * _area(faces[0][0])]

    def faces(self, image: UInt8[np.ndarray, "H W 3"]) -> list[DetectedFace]:
        """Returns the faces of one image, largest first, with what the mesh makes of each."""
        faces = []
        for box, angle in self.detect(image):
            points, score = self._fit_mesh(image, (box, angle))
            landmarks = FaceLandmarks(points=points[None], visible=np.array([True]), num_faces=1)
            faces.append(DetectedFace(box=box, score=score, mouth_opening=float(mouth_opening(landmarks)[0])))
        return faces

    @cached_property
    def _detector(self) -> "_LiteRtNetwork":
        return _LiteRtNetwork(self.networks[DETECTOR].path)

    @cached_property
    def _mesh(self) -> "_LiteRtNetwork":
        return _LiteRtNetwork(self.networks[MESH].path)

    def _fit_mesh(
        self, frame: UInt8[np.ndarray, "H W 3"], face: tuple[Box, float]
    ) -> tuple[Float[np.ndarray, "p 2"], float]:
        """Returns landmarks in the frame's pixels and the score; the mesh sees the face upright."""
        cv2 = _opencv()
        (left, top, right, bottom), angle = face
        size, side = self._mesh.size, MESH_MARGIN * max(right - left, bottom - top)
        middle = ((left + right) / 2, (top + bottom) / 2)
        rotation = cv2.getRotationMatrix2D(middle, float(np.degrees(angle)), size / side)
        rotation[:, 2] += size / 2 - np.array(middle)
        outputs = self._mesh(cv2.warpAffine(frame, rotation, (size, size)).astype(np.float32) / 255)
        points = next(out for out in outputs if out.size == NUM_LANDMARKS * 3).reshape(NUM_LANDMARKS, 3)[:, :2]
        score = next(out for out in outputs if out.size == 1)
        inverse = cv2.invertAffineTransform(rotation)
        return points @ inverse[:, :2].T + inverse[:, 2], float(1 / (1 + np.exp(-score.ravel()[0])))


class _LiteRtNetwork:
    """A .tflite network with one image as its input."""

    def __init__(self, path: Path) -> None:
        package = require("ai_edge_litert.interpreter", "finding faces", "ai-edge-litert")
        try:
            self._interpreter: Any = package.Interpreter(str(path), num_threads=1)
        except ValueError as error:
            raise CheckpointError(f"{path} is no TensorFlow Lite network ({error}); download it again") from error
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()
        self.size = int(self._input["shape"][1])

    def __call__(self, image: Float[np.ndarray, "H W 3"]) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input["index"], image[None].astype(np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"])[0] for output in self._outputs]


def _opencv() -> Any:
    return require("cv2", "finding faces", "opencv-python-headless")


def _anchors() -> Float[np.ndarray, "n 2"]:
    """Returns the centres of the detector's candidates in shares of the image: two a cell for every layer of a
    stride."""
    centres = []
    for stride in dict.fromkeys(ANCHOR_STRIDES):
        side = 256 // stride
        axis = (np.arange(side) + 0.5) / side
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        centres.append(grid.repeat(2 * ANCHOR_STRIDES.count(stride), axis=0))
    return np.concatenate(centres)


_ANCHORS = _anchors()


def _letterboxed(
    frame: UInt8[np.ndarray, "H W 3"], size: int
) -> tuple[Float[np.ndarray, "size size 3"], float, Float[np.ndarray, " 2"]]:
    """Returns the frame in the middle of a black square, in [-1, 1], with scale and offset of the inverse: a point of
    the frame is (point of the square - offset) / scale."""
    height, width = frame.shape[:2]
    scale = size / max(height, width)
    small = _opencv().resize(frame, (max(int(width * scale), 1), max(int(height * scale), 1)))
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square = np.zeros((size, size, 3), np.float32)
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square / 127.5 - 1, scale, np.array([left, top], np.float64)


def _nearest(faces: list[tuple[Box, float]], centre: np.ndarray | None) -> tuple[Box, float]:
    """Returns the face nearest to `centre`, the largest one without it."""
    if centre is None:
        return faces[0]
    return min(
        faces,
        key=lambda face: np.hypot((face[0][0] + face[0][2]) / 2 - centre[0], (face[0][1] + face[0][3]) / 2 - centre[1]),
    )


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _iou(a: Box, b: Box) -> float:
    """Returns intersection over union."""
    shared = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return shared / max(_area(a) + _area(b) - shared, 1e-9)
