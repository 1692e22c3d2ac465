"""The face tracker: by the face mesh where its networks are at hand, else by our own locator.

The mesh knows people of all kinds; our locator knows the synthetic world, which has no hands to take for a face. So the
mesh goes first, and the locator where the mesh sees nothing or is not there.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8

from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_locator import FaceLocator
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES, FaceLandmarks, FaceMesh
from uniavgen.perception.face_track import FaceTrack
from uniavgen.perception.frames import LastClipCache
from uniavgen.perception.loading import shipped_weights
from uniavgen.perception.packages import is_missing
from uniavgen.perception.weights import ResolvedWeights

NETWORK = "face-locator"
MASK_OVER_MESH, MASK_ABOVE_MESH = 1.11, 0.035
"""Size of the world's face mask over that of the box around the mesh, and how far its middle is above the box's, in
its own sizes; medians over rendered clips of both styles. [ours, measured]"""


class FaceTracker:
    """Follows the face of a clip. The results of the last clip are kept, since several metrics ask for them."""

    def __init__(self, weights: Mapping[str, ResolvedWeights] | None = None) -> None:
        """Takes the weights of networks by name; those of the mesh are used if both are among them."""
        weights = weights or {}
        has_mesh = weights.keys() >= {*MESH_NETWORKS} and not any(map(is_missing, MESH_PACKAGES))
        self._mesh = FaceMesh(weights) if has_mesh else None
        self._landmarks = LastClipCache[FaceLandmarks]()
        self._tracks = LastClipCache[FaceTrack | NotMeasured]()

    @property
    def networks(self) -> Mapping[str, ResolvedWeights]:
        """Returns the networks that have a say in `track`."""
        path = shipped_weights("face_locator")
        return {NETWORK: ResolvedWeights(label=path.name, path=path), **self.mesh_networks}

    @property
    def mesh_networks(self) -> Mapping[str, ResolvedWeights]:
        """Returns the networks that have a say in `landmarks`."""
        return self._mesh.networks if self._mesh else {}

    def track(self, frames: UInt8[np.ndarray, "F H W 3"], fps: float) -> FaceTrack:
        """Returns where the face is; NotMeasured unless one face is visible in nearly all frames."""
        result = self._tracks.get(frames, lambda: self._track(frames, fps))
        if isinstance(result, NotMeasured):
            raise result
        return result

    def landmarks(self, frames: UInt8[np.ndarray, "F H W 3"]) -> FaceLandmarks:
        """Returns the mesh of the face; NotMeasured unless one face is visible in nearly all frames."""
        landmarks = self._cached_landmarks(frames, self._required_mesh())
        landmarks.check()
        return landmarks

    def image_landmarks(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "p 2"]:
        """Returns the mesh of the face in one image, past the cache; NotMeasured without one, or with several."""
        landmarks = self._required_mesh().landmarks(image[None])
        landmarks.check()
        return landmarks.points[0]

    def _required_mesh(self) -> FaceMesh:
        if self._mesh is None:
            raise NotMeasured("the face mesh is not at hand")
        return self._mesh

    def _cached_landmarks(self, frames: UInt8[np.ndarray, "F H W 3"], mesh: FaceMesh) -> FaceLandmarks:
        return self._landmarks.get(frames, lambda: mesh.landmarks(frames))

    def _track(self, frames: UInt8[np.ndarray, "F H W 3"], fps: float) -> FaceTrack | NotMeasured:
        try:
            if self._mesh is not None:
                landmarks = self._cached_landmarks(frames, self._mesh)
                if landmarks.is_visible:
                    landmarks.check()
                    return mesh_track(landmarks, frames.shape[1], fps)
            return FaceTrack.from_probabilities(self._locator.predict(frames), fps, source="our locator")
        except NotMeasured as reason:
            return reason

    @cached_property
    def _locator(self) -> FaceLocator:
        return FaceLocator.load()


def mesh_track(landmarks: FaceLandmarks, height_px: int, fps: float) -> FaceTrack:
    """Returns where the world's mask of the face would be, from the box around the mesh."""
    corners = landmarks.boxes / height_px
    sizes = MASK_OVER_MESH * np.sqrt((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]))
    middles = (corners[:, :2] + corners[:, 2:]) / 2 - np.stack([np.zeros_like(sizes), MASK_ABOVE_MESH * sizes], axis=1)
    places = np.concatenate([middles, sizes[:, None]], axis=1)
    return FaceTrack.smoothed(np.flatnonzero(landmarks.visible), places, fps, source="face mesh")
