"""Faces and where they go inside each shot: the detector's boxes, asked back of the mesh, joined by overlap."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from uniavgen.config import Config
from uniavgen.config.values import NonNegative, Positive, PositiveInt, Probability
from uniavgen.data_engine.face_boxes import FaceSample, TrackBuilder
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.frame_stream import sample_frames
from uniavgen.media.reader import open_media
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES, MIN_SCORE, FaceMesh


@dataclass(frozen=True, kw_only=True)
class FacesConfig(Config):
    """Settings of `FacesStage`."""

    rate_hz: Positive = 8.0
    """Frames a second that are looked at; syllables open a mouth four to five times a second. [ours]"""
    short_side_px: PositiveInt = 480
    """Of these frames."""
    min_iou: Probability = 0.3
    """Overlap from which boxes of neighbouring frames show one face. [ours]"""
    max_gap_s: NonNegative = 0.6
    """A face that was missing for longer is another one. [ours]"""


class FacesStage(Stage):
    """Looks for faces at a steady rate inside every shot.

    Values: tracks (shot, start_s, end_s, confirmed_share: how often the mesh sees a face there too).
    Arrays: those of `FaceBoxes`; sample_time_s and num_faces: how many confirmed faces are seen at every moment.
    """

    name = "faces"
    requires = ("shots",)
    required_networks = MESH_NETWORKS
    packages = MESH_PACKAGES
    settings_class = FacesConfig
    settings: FacesConfig

    def setup(self) -> None:
        self._mesh = FaceMesh(self.context.weights)

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        shots = inputs["shots"].values["shots"]
        moments = [(time_s, index) for index, shot in enumerate(shots) for time_s in self._times(*shot)]
        builder = TrackBuilder(self.settings.min_iou, self.settings.max_gap_s)
        times, counts = [], []
        with open_media(source.path, quiet=True) as reader:
            frames = sample_frames(reader, [time_s for time_s, _ in moments], self.settings.short_side_px)
            for (_, shot), frame in zip(moments, frames, strict=False):
                faces = list(self._faces(frame.pixels))
                builder.add(frame.time_s, shot, faces)
                times.append(frame.time_s)
                counts.append(sum(face.is_confirmed for face in faces))
        boxes = builder.boxes()
        tracks = []
        for track, shot in enumerate(boxes.shots):
            rows = boxes.of_track(track)
            tracks.append(
                {
                    "shot": int(shot),
                    "start_s": float(rows.time_s[0]),
                    "end_s": float(rows.time_s[-1]),
                    "confirmed_share": float(rows.is_confirmed.mean()),
                }
            )
        arrays = {"sample_time_s": np.array(times, np.float64), "num_faces": np.array(counts, np.int64)}
        return StageOutput(values={"tracks": tracks}, arrays={**boxes.arrays(), **arrays})

    def _times(self, start_s: float, end_s: float) -> list[float]:
        count = max(int((end_s - start_s) * self.settings.rate_hz), 1)
        return (
            (start_s + (np.arange(count) + 0.5) / self.settings.rate_hz)
            .clip(max=(start_s + end_s) / 2 if count == 1 else np.inf)
            .tolist()
        )

    def _faces(self, image: UInt8[np.ndarray, "h w 3"]) -> Iterator[FaceSample]:
        height, width = image.shape[:2]
        for face in self._mesh.faces(image):
            left, top, right, bottom = face.box
            box = (left / width, top / height, right / width, bottom / height)
            yield FaceSample(box=box, is_confirmed=face.score >= MIN_SCORE, mouth_opening=face.mouth_opening)
