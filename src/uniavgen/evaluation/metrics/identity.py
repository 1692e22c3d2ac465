"""Whether the person stays the same: dlib's face descriptor over time and against the prompt's image. [ours]"""

from functools import cached_property

import numpy as np
from jaxtyping import Float

from uniavgen.errors import MediaError
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.image import read_image
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_identity import IDENTITY_PACKAGES, FaceIdentityEncoder
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES

NUM_FRAMES = 8
"""Frames that are looked at, evenly spaced; one takes 0.2 s. [ours]"""


class FaceIdentity(Metric):
    """Cosines of face descriptors."""

    name = "identity"
    group = Group.OPEN
    required_networks = (*MESH_NETWORKS, "face-identity")
    packages = MESH_PACKAGES | IDENTITY_PACKAGES
    columns = (
        Column(
            name="identity_consistency",
            description="mean cosine of the face descriptors of 8 frames with the first one's (dlib); 1 is the same "
            "face, real clips have about 0.96",
            better=Better.HIGHER,
        ),
        Column(
            name="identity_reference",
            description="mean cosine of the face descriptors of 8 frames with that of the prompt's picture (dlib)",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        points = self.context.faces.landmarks(clip.frames).points
        picks = np.linspace(0, len(clip.frames) - 1, NUM_FRAMES).round().astype(int)
        embeddings = np.stack([self._encoder.embed(clip.frames[i], points[i]) for i in picks])
        scores, reasons = {"identity_consistency": float((embeddings[1:] @ embeddings[0]).mean())}, {}
        try:
            scores["identity_reference"] = float((embeddings @ self._reference(prompt)).mean())
        except NotMeasured as reason:
            reasons["identity_reference"] = str(reason)
        return Measurement(scores=scores, reasons=reasons)

    def _reference(self, prompt: Prompt) -> Float[np.ndarray, " d"]:
        if prompt.image is None:
            raise NotMeasured("the prompt has no image")
        try:
            image = read_image(prompt.image)
        except MediaError as error:
            raise NotMeasured(str(error).replace(str(prompt.image), prompt.image.name)) from error
        try:
            points = self.context.faces.image_landmarks(image)
        except NotMeasured as reason:
            raise NotMeasured(f"in the prompt's image {reason}") from reason
        return self._encoder.embed(image, points)

    @cached_property
    def _encoder(self) -> FaceIdentityEncoder:
        return FaceIdentityEncoder(self.context.weights["face-identity"].path)
