"""Does the person stay the same: dlib's face descriptor over time and against the prompt's picture. [ours]

The descriptor is a ResNet of 128 numbers, trained for face recognition (CC0); the face is aligned by landmarks of the
face mesh.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from uniavgen.errors import CheckpointError, MediaError
from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.faces import EYES_AND_NOSE, FaceFinder
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.image import read_image

NETWORK = "face-identity"
FRAMES = 8
"""Frames looked at, evenly spaced; one takes 0.2 s. [ours]"""
COLUMNS = (
    Column(
        name="identity_consistency",
        description="mean cosine of the face descriptors of 8 frames with the first one's (dlib); 1 is the same face, "
        "real clips have about 0.96",
        better=Better.HIGHER,
    ),
    Column(
        name="identity_reference",
        description="mean cosine of the face descriptors of 8 frames with that of the prompt's picture (dlib)",
        better=Better.HIGHER,
    ),
)


class FaceIdentity:
    """Face descriptors of a clip."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, faces: FaceFinder, weights: Weights) -> None:
        self._faces, self._weights = faces, weights

    @property
    def networks(self) -> Mapping[str, Weights]:
        return {**self._faces.networks, NETWORK: self._weights}

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        track = self._faces.track(clip)
        picks = np.linspace(0, len(clip.frames) - 1, FRAMES).round().astype(int)
        found = np.stack([self._descriptor(clip.frames[i], track.landmarks[i]) for i in picks])
        scores, reasons = {"identity_consistency": float((found[1:] @ found[0]).mean())}, {}
        try:
            scores["identity_reference"] = float((found @ self._reference(prompt)).mean())
        except NotMeasured as reason:
            reasons["identity_reference"] = str(reason)
        return Measurement(scores=scores, reasons=reasons)

    def _reference(self, prompt: Prompt) -> Float[np.ndarray, " d"]:
        if prompt.image is None:
            raise NotMeasured("the prompt has no image")
        try:
            picture = read_image(prompt.image)
        except MediaError as error:
            raise NotMeasured(str(error).replace(str(prompt.image), prompt.image.name)) from None
        track = self._faces.follow(picture[None])
        try:
            track.check()
        except NotMeasured as reason:
            raise NotMeasured(f"in the prompt's image {reason}") from None
        return self._descriptor(picture, track.landmarks[0])

    def _descriptor(self, frame: UInt8[np.ndarray, "H W 3"], landmarks: Float[np.ndarray, "p 2"]) -> np.ndarray:
        """Unit vector of 128 numbers."""
        dlib = _dlib()
        places = [dlib.point(*(round(float(value)) for value in landmarks[i])) for i in EYES_AND_NOSE]
        (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
        box = dlib.rectangle(int(left), int(top), int(right), int(bottom))
        shape = dlib.full_object_detection(box, dlib.points(places))
        vector = np.array(self._network.compute_face_descriptor(np.ascontiguousarray(frame), shape))
        return vector / np.linalg.norm(vector)

    @cached_property
    def _network(self) -> Any:
        try:
            return _dlib().face_recognition_model_v1(str(self._weights.path))
        except RuntimeError as error:
            raise CheckpointError(f"{self._weights.path} is no face descriptor of dlib ({error})") from None


def _dlib() -> Any:
    return needed("dlib", "face identity", "dlib-bin")
