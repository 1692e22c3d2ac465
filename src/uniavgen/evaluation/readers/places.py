"""Where the face of a clip is, found once for all readers that look at it.

The face mesh finds faces of any people; our locator knows the synthetic world, which has no hands to take for a face.
So the mesh goes first where its networks are at hand, and our locator where it sees nothing, or is not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uniavgen.evaluation.clip import Clip, Kept
from uniavgen.evaluation.faces import FaceFinder, FaceTrack
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.readers.locator import FaceLocator, FacePath
from uniavgen.evaluation.readers.storing import shipped

NETWORK = "face-locator"
MASK_OVER_MESH, MASK_ABOVE_MESH = 1.11, 0.035
"""Size of the world's face mask over that of the box around the mesh, and how far its middle is above the box's, in
its own sizes; medians over rendered clips of both styles. [ours, measured]"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The face of a clip."""

    path: FacePath
    found_by: str
    """The network that found it."""


class FacePlaces:
    """Finds the face of a clip, and keeps the last clip's."""

    def __init__(self, finder: FaceFinder | None = None) -> None:
        """`finder`: the face mesh, where it is at hand."""
        path = shipped("face_locator")
        self.networks: Mapping[str, Weights] = {
            NETWORK: Weights(label=path.name, path=path),
            **(finder.networks if finder else {}),
        }
        self._finder = finder
        self._kept = Kept[Place | NotMeasured]()

    def find(self, clip: Clip) -> Place:
        """NotMeasured unless there is one face, and nearly always."""
        found = self._kept.of(clip.frames, lambda: self._found(clip))
        if isinstance(found, NotMeasured):
            raise found
        return found

    def _found(self, clip: Clip) -> Place | NotMeasured:
        try:
            if self._finder is not None:
                track = self._finder.follow_once(clip)
                if track.is_seen:
                    track.check()
                    return Place(path=mesh_path(track, clip.frames.shape[1], float(clip.fps)), found_by="face mesh")
            path = FacePath.of(self._locator.mark(clip.frames), float(clip.fps))
            return Place(path=path, found_by="our locator")
        except NotMeasured as reason:
            return reason

    @cached_property
    def _locator(self) -> FaceLocator:
        return FaceLocator.load()


def mesh_path(track: FaceTrack, height_px: int, fps: float) -> FacePath:
    """Where the world's mask of the face would be, from the box around the mesh."""
    corners = track.boxes / height_px
    sizes = MASK_OVER_MESH * np.sqrt((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]))
    middles = (corners[:, :2] + corners[:, 2:]) / 2 - np.stack([np.zeros_like(sizes), MASK_ABOVE_MESH * sizes], axis=1)
    return FacePath.steady(np.flatnonzero(track.seen), np.concatenate([middles, sizes[:, None]], axis=1), fps)
