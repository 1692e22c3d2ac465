"""Whose voice each segment has, and whether it stays the same, by CAM++."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from uniavgen.config import Config
from uniavgen.config.values import Positive
from uniavgen.data_engine.segment import segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.audio_stream import cut_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.campplus import EMBEDDING
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.speaker import SPEAKER_PACKAGES, SpeakerEncoder


@dataclass(frozen=True, kw_only=True)
class SpeakerConfig(Config):
    """Settings of `SpeakerStage`."""

    min_part_s: Positive = 2.0
    """Shorter parts of a segment say too little about a voice. [ours]"""


class SpeakerStage(Stage):
    """Embeds the voice of each segment.

    Values: segments (consistency: least cosine between the voices of its thirds or halves, None where it is too short;
    agreement: cosine with the mean voice of the other segments of the same face track, which a voice that was swapped
    inside a shot lowers, None without others; or the reason why it has no embedding).
    Arrays: embedding (segments x 192), unit vectors, zeros where there is a reason.
    """

    name = "speaker"
    requires = ("segments",)
    required_networks = ("speaker",)
    packages = SPEAKER_PACKAGES
    settings_class = SpeakerConfig
    settings: SpeakerConfig

    def setup(self) -> None:
        self._encoder = SpeakerEncoder(self.context.weights["speaker"].path)

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments = segments_of(inputs["segments"])
        stretches = [(segment.start_s, segment.end_s) for segment in segments]
        embeddings = np.zeros((len(stretches), EMBEDDING), np.float32)
        rows: list[dict[str, float | str | None]] = []
        with open_media(source.path, quiet=True) as reader:
            for index, waveform in enumerate(cut_audio(reader, SPEECH_RATE_HZ, stretches)):
                try:
                    embeddings[index] = self._encoder.embed(waveform)
                    rows.append({"consistency": self._consistency(waveform)})
                except NotMeasured as reason:
                    rows.append({"consistency": None, "reason": str(reason)})
        tracks = np.array([segment.track for segment in segments], np.int64)
        for row, agreement in zip(rows, voice_agreement(embeddings, tracks), strict=True):
            row["agreement"] = agreement
        return StageOutput(values={"segments": rows}, arrays={"embedding": embeddings})

    def _consistency(self, waveform: Float32[np.ndarray, " samples"]) -> float | None:
        count = min(int(len(waveform) / SPEECH_RATE_HZ / self.settings.min_part_s), 3)
        if count < 2:
            return None
        parts = np.stack([self._encoder.embed(part) for part in np.array_split(waveform, count)])
        return round(_least_cosine(parts), 4)


def voice_agreement(voices: Float[np.ndarray, "n d"], tracks: Int[np.ndarray, " n"]) -> list[float | None]:
    """Returns the cosine of each voice with the mean of all others of its track; None without others, or for zeros."""
    known = np.asarray(voices.any(axis=1))
    agreements: list[float | None] = []
    for index, track in enumerate(tracks.tolist()):
        others = np.equal(tracks, track) & known & (np.arange(len(tracks)) != index)
        if not (known[index] and others.any()):
            agreements.append(None)
            continue
        mean = voices[others].mean(axis=0)
        agreements.append(round(float(voices[index] @ mean / max(np.linalg.norm(mean), 1e-6)), 4))
    return agreements


def _least_cosine(vectors: Float[np.ndarray, "n d"]) -> float:
    return float((vectors @ vectors.T).min())
