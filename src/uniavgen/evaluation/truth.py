"""What is known about a rendered clip, out of a prompt's truth file or out of shards."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from uniavgen.data.sample import Sample, decode_arrays, read_sample
from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.prompts import Prompt
from uniavgen.timebase import ClipTiming, Timebase


@dataclass(frozen=True, kw_only=True)
class Truth:
    """At 16 frames a second (`timebase.Timebase.fps`)."""

    mouth_opening: Float[np.ndarray, " F"]
    """As the renderer drove it, in the renderer's unit."""
    face_mask: Bool[np.ndarray, "F H W"]


@dataclass(frozen=True, kw_only=True)
class TruthClip:
    """A rendered clip of a folder of shards."""

    sample: Sample
    """Cut to the truth's length."""
    truth: Truth
    npz: bytes
    """The truth as it is stored."""

    @property
    def frames(self) -> np.ndarray:
        """uint8 F H W 3."""
        assert self.sample.frames is not None
        return self.sample.frames[: len(self.truth.mouth_opening)]


def read_truth(content: bytes, name: str) -> Truth:
    """Truth out of the bytes of an npz; DataError where a part is missing or the file is damaged."""
    arrays = decode_arrays(content, name)
    for part in ("mouth_opening", "face_mask"):
        if part not in arrays:
            raise DataError(f"{name} holds no {part}; use the npz of a rendered clip")
    opening, mask = arrays["mouth_opening"], arrays["face_mask"]
    length = min(len(mask), len(opening))
    return Truth(mouth_opening=opening[:length], face_mask=mask[:length])


def truth_of(prompt: Prompt) -> Truth:
    """The truth of a prompt; NotMeasured where it has none that can be read."""
    if prompt.truth is None:
        raise NotMeasured("the prompt has no truth")
    try:
        return _read(prompt.truth)
    except (DataError, OSError) as error:
        raise NotMeasured(str(error)) from None


@lru_cache(maxsize=4)
def _read(path: Path) -> Truth:
    # A mask of a clip is some megabytes, and a control asks for two truths by turns.
    return read_truth(path.read_bytes(), path.name)


def iterate_truth(folder: str, timing: ClipTiming, limit: int) -> Iterator[TruthClip]:
    """The first `limit` clips of a folder of shards; DataError where it holds fewer, or one is too short."""
    shards = ShardSet(folder)
    if len(shards) < limit:
        raise DataError(f"{folder} holds {len(shards)} clips, {limit} are asked for; render more or ask for fewer")
    for i in range(limit):
        yield _truth_clip(shards, i, timing)


def _truth_clip(shards: ShardSet, i: int, timing: ClipTiming) -> TruthClip:
    sample = read_sample(shards, i, Timebase())
    if sample.frames is None or sample.face_mask is None:
        raise DataError(f"sample '{sample.key}' has no video or no face mask; use a folder of `uniavgen synth`")
    content = shards.read(i, "npz")
    truth = read_truth(content, f"sample '{sample.key}'")
    frames = timing.num_frames
    if min(len(sample.frames), len(truth.mouth_opening)) < frames:
        raise DataError(f"sample '{sample.key}' is shorter than {frames} frames; render clips of at least this length")
    return TruthClip(
        sample=sample,
        truth=Truth(mouth_opening=truth.mouth_opening[:frames], face_mask=truth.face_mask[:frames]),
        npz=content,
    )
