"""Whose face each segment shows, by dlib's descriptor."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uniavgen.config import Config
from uniavgen.config.values import NonNegative, PositiveInt
from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.face_crops import face_crops
from uniavgen.data_engine.segment import segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.reader import open_media
from uniavgen.perception.face_identity import EMBEDDING, IDENTITY_PACKAGES, FaceIdentityEncoder
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES, FaceMesh


@dataclass(frozen=True, kw_only=True)
class FaceIdentityConfig(Config):
    """Settings of `FaceIdentityStage`."""

    frames: PositiveInt = 3
    """A segment. [ours]"""
    short_side_px: PositiveInt = 720
    """Of these frames, before the face is cut out."""
    margin: NonNegative = 0.6
    """Picture around a face, in sizes of its box, in which the mesh looks for it. [ours]"""
    max_side_px: PositiveInt = 480
    """Of that picture."""


class FaceIdentityStage(Stage):
    """Embeds the face of each segment.

    Values: segments (consistency: least cosine of its frames; or the reason why it has no embedding).
    Arrays: embedding (segments x 128), unit vectors, zeros where there is a reason.
    """

    name = "face_identity"
    requires = ("faces", "segments")
    required_networks = (*MESH_NETWORKS, "face-identity")
    packages = MESH_PACKAGES | IDENTITY_PACKAGES
    settings_class = FaceIdentityConfig
    settings: FaceIdentityConfig

    def setup(self) -> None:
        self._mesh = FaceMesh(self.context.weights)
        self._encoder = FaceIdentityEncoder(self.context.weights["face-identity"].path)

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments = segments_of(inputs["segments"])
        embeddings = np.zeros((len(segments), EMBEDDING), np.float32)
        rows: list[dict[str, float | str]] = []
        with open_media(source.path, quiet=True) as reader:
            crops = face_crops(
                reader,
                segments,
                FaceBoxes.of(inputs["faces"].arrays),
                [self.settings.frames] * len(segments),
                short_side_px=self.settings.short_side_px,
                margin=self.settings.margin,
                max_side_px=self.settings.max_side_px,
            )
            for index, frames in enumerate(crops):
                vectors = []
                # Each frame is looked at for itself, since much moves between them.
                for frame in frames:
                    landmarks = self._mesh.landmarks(frame[None])
                    if landmarks.visible[0]:
                        vectors.append(self._encoder.embed(frame, landmarks.points[0]))
                if not vectors:
                    rows.append({"reason": "no face is seen"})
                    continue
                stacked = np.stack(vectors)
                mean = stacked.mean(axis=0)
                embeddings[index] = mean / np.linalg.norm(mean)
                rows.append({"consistency": round(float((stacked @ stacked.T).min()), 4)})
        return StageOutput(values={"segments": rows}, arrays={"embedding": embeddings})
