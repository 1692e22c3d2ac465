"""Lip sync by a small network of our own, trained on the synthetic world. [ours]

See `evaluation.readers.sync`. Beside SyncNet's LSE-C and LSE-D, on no scale of theirs. Its offset has SyncNet's sign.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from uniavgen.evaluation.clip import Clip, Kept
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.readers.places import FacePlaces
from uniavgen.evaluation.readers.storing import shipped
from uniavgen.evaluation.readers.sync import MAX_SHIFT, STEPS_PER_S, SyncReader, agreement

NETWORK = "sync-reader"
COLUMNS = (
    Column(
        name="lips_in_time",
        description="how far the distance of lips and sound as played is below the median of all shifts, by our sync "
        "reader; chance is 0, truth of rendered people about 0.16",
        better=Better.HIGHER,
    ),
    Column(
        name="lips_confidence",
        description="how far the distance of lips and sound at the best shift is below the median of all shifts, by "
        "our sync reader; 0 or more",
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


class Sync:
    """Shift, confidence and distance of a clip's lips and sound."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, places: FacePlaces) -> None:
        self._places = places
        self._seen = Kept[np.ndarray]()

    @property
    def networks(self) -> Mapping[str, Weights]:
        path = shipped("sync_reader")
        return {**self._places.networks, NETWORK: Weights(label=path.name, path=path)}

    @cached_property
    def _reader(self) -> SyncReader:
        return SyncReader.load()

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        if clip.waveform is None:
            raise NotMeasured("the clip has no sound track")
        if clip.is_silent:
            raise NotMeasured("the clip is silent")
        place = self._places.find(clip)
        seen = self._seen.of(clip.frames, lambda: self._reader.watch(clip.frames, float(clip.fps), place.path))
        found = agreement(seen, self._reader.listen(clip.waveform))
        return Measurement(
            scores={
                "lips_in_time": found.at_zero,
                "lips_confidence": found.confidence,
                "lips_distance": found.distance,
                "lips_error_ms": abs(found.offset_ms),
                "lips_offset_ms": found.offset_ms,
            },
            details={
                "face found by": place.found_by,
                "sync/shifts_ms": [1000 / STEPS_PER_S * shift for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)],
                "sync/distances": [round(float(value), 4) for value in found.distances],
            },
        )
