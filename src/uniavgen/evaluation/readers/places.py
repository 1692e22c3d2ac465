"""Where the face of a clip is, found once for all readers that look at it."""

from collections.abc import Mapping
from functools import cached_property

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.readers.locator import FaceLocator, FacePath
from uniavgen.evaluation.readers.storing import shipped

NETWORK = "face-locator"


class FacePlaces:
    """Finds the face of a clip by our locator, and keeps the last clip's."""

    def __init__(self) -> None:
        path = shipped("face_locator")
        self.networks: Mapping[str, Weights] = {NETWORK: Weights(label=path.name, path=path)}
        self._last: tuple[Clip, FacePath | NotMeasured] | None = None

    def find(self, clip: Clip) -> FacePath:
        """NotMeasured unless there is one face, and nearly always."""
        if self._last is None or self._last[0] is not clip:
            self._last = (clip, self._found(clip))
        found = self._last[1]
        if isinstance(found, NotMeasured):
            raise found
        return found

    def _found(self, clip: Clip) -> FacePath | NotMeasured:
        try:
            return FacePath.of(self._locator.mark(clip.frames), float(clip.fps))
        except NotMeasured as reason:
            return reason

    @cached_property
    def _locator(self) -> FaceLocator:
        return FaceLocator.load()
