"""Face descriptors by dlib's ResNet of 128 numbers, trained for face recognition (CC0)."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from uniavgen.errors import CheckpointError
from uniavgen.perception.face_mesh import EYES_AND_NOSE
from uniavgen.perception.packages import require

IDENTITY_PACKAGES = {"dlib": "dlib-bin"}
EMBEDDING = 128


class FaceIdentityEncoder:
    """Faces, aligned by landmarks of the face mesh, to unit vectors."""

    def __init__(self, path: Path) -> None:
        self._dlib: Any = require("dlib", "face identity", "dlib-bin")
        try:
            self._network = self._dlib.face_recognition_model_v1(str(path))
        except RuntimeError as error:
            raise CheckpointError(f"{path} is no face descriptor of dlib ({error})") from error

    def embed(self, frame: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, " d"]:
        """Returns the descriptor of the face with these landmarks."""
        corners = [self._dlib.point(*(round(float(value)) for value in points[i])) for i in EYES_AND_NOSE]
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        box = self._dlib.rectangle(int(left), int(top), int(right), int(bottom))
        shape = self._dlib.full_object_detection(box, self._dlib.points(corners))
        vector = np.array(self._network.compute_face_descriptor(np.ascontiguousarray(frame), shape))
        return vector / np.linalg.norm(vector)
