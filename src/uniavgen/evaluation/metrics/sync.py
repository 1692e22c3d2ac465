"""Lip sync by a small network of our own, trained on the synthetic world. [ours]

See `perception.lip_sync`. It stands beside SyncNet's LSE-C and LSE-D, on another scale; the offset has SyncNet's sign.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, MetricContext, audible_waveform
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.face_mesh import MESH_NETWORKS
from uniavgen.perception.frames import LastClipCache
from uniavgen.perception.lip_sync import MAX_SHIFT, STEPS_PER_S, LipSyncEncoder, compare_streams
from uniavgen.perception.loading import shipped_weights
from uniavgen.perception.weights import ResolvedWeights


class OwnLipSync(Metric):
    """Offset, confidence and distance of a clip's lips and sound."""

    name = "sync"
    group = Group.OPEN
    optional_networks = MESH_NETWORKS
    columns = (
        Column(
            name="lips_in_time",
            description="how far the distance of lips and sound as played is below the median of all shifts, by our "
            "sync reader; chance is 0, truth of rendered people about 0.16",
            better=Better.HIGHER,
        ),
        Column(
            name="lips_confidence",
            description="how far the distance of lips and sound at the best shift is below the median of all shifts, "
            "by our sync reader; 0 or more",
            better=Better.HIGHER,
        ),
        Column(
            name="lips_distance",
            description="distance of lips and sound at the best shift, by our sync reader; 0 to 2",
            better=Better.LOWER,
        ),
        Column(
            name="lips_error_ms",
            description="how far sound and lips are apart in time, by our sync reader; 0 to 500 ms",
            better=Better.LOWER,
        ),
        Column(
            name="lips_offset_ms",
            description="the same with its sign, as of SyncNet: above 0 the sound comes early",
            better=Better.NEITHER,
        ),
    )

    def __init__(self, context: MetricContext) -> None:
        super().__init__(context)
        self._lip_streams = LastClipCache[np.ndarray]()

    @property
    def networks(self) -> Mapping[str, ResolvedWeights]:
        path = shipped_weights("sync_reader")
        return {**self.context.faces.networks, "sync-reader": ResolvedWeights(label=path.name, path=path)}

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        waveform, fps = audible_waveform(clip), float(clip.fps)
        track = self.context.faces.track(clip.frames, fps)
        lips = self._lip_streams.get(clip.frames, lambda: self._encoder.embed_video(clip.frames, fps, track))
        result = compare_streams(lips, self._encoder.embed_waveform(waveform))
        return Measurement(
            scores={
                "lips_in_time": result.confidence_unshifted,
                "lips_confidence": result.confidence,
                "lips_distance": result.distance,
                "lips_error_ms": abs(result.offset_ms),
                "lips_offset_ms": result.offset_ms,
            },
            details={
                "face found by": track.source,
                "sync/shifts_ms": [1000 / STEPS_PER_S * shift for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)],
                "sync/distances": [round(float(value), 4) for value in result.distances],
            },
        )

    @cached_property
    def _encoder(self) -> LipSyncEncoder:
        return LipSyncEncoder.load()
