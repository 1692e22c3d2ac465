"""Held-out clips with their truth, out of rendered shards."""

import io
from collections.abc import Iterator

import numpy as np

from uniavgen.data.sample import read_sample
from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.evaluation.metric import TruthClip
from uniavgen.timebase import ClipTiming


def read_truth(shards: ShardSet, i: int, timing: ClipTiming) -> TruthClip:
    """Clip `i` cut to the timing's length; DataError where a part of the truth is missing or too short."""
    sample = read_sample(shards, i, timing.base)
    key = sample.key
    if sample.frames is None or sample.face_mask is None:
        raise DataError(f"sample '{key}' has no video or no face mask; evaluate on a folder of `uniavgen synth`")
    with np.load(io.BytesIO(shards.read(i, "npz")), allow_pickle=False) as truth:
        if "mouth_opening" not in truth:
            raise DataError(f"sample '{key}' has no mouth opening; evaluate on a folder of `uniavgen synth`")
        opening = truth["mouth_opening"].astype(np.float32)
    frames = timing.num_frames
    if min(len(sample.frames), len(sample.face_mask), len(opening)) < frames:
        raise DataError(f"sample '{key}' is shorter than {frames} frames; render clips of at least this length")
    samples = timing.num_samples
    return TruthClip(
        key=key,
        frames=sample.frames[:frames],
        waveform=np.pad(sample.waveform[:samples], (0, max(samples - len(sample.waveform), 0))),
        caption=sample.caption,
        speech=sample.text,
        mouth_opening=opening[:frames],
        face_mask=sample.face_mask[:frames],
    )


def iterate_truth(folder: str, timing: ClipTiming, limit: int) -> Iterator[TruthClip]:
    """The first `limit` clips of a folder of shards; DataError where it holds fewer."""
    shards = ShardSet(folder)
    if len(shards) < limit:
        raise DataError(f"{folder} holds {len(shards)} clips, {limit} are asked for; render more or ask for fewer")
    for i in range(limit):
        yield read_truth(shards, i, timing)
