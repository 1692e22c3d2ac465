"""One clip of a data set as it lies in a shard: KEY.json, KEY.mp4, KEY.flac (or wav, opus), KEY.npz.

Only the sound and, in the json, `text` are always there. The json also takes `caption`, `speaker` (whoever has the
same one serves as reference audio), `words` or `phones` with times, and any facts; the npz holds the truth that a
synthetic world knows. A clip of speech alone has no mp4 and no npz.

Letters: F pixel frames, H W picture.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from uniavgen.data.shards import ShardSet
from uniavgen.data.words import Word, word_times
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A decoded clip."""

    key: str
    text: str
    """Transcript of the whole clip."""
    caption: str
    speaker: str
    waveform: Float32[np.ndarray, " samples"]
    """Mono in [-1, 1], at the timebase's rate, aligned with frame 0."""
    frames: UInt8[np.ndarray, "F H W 3"] | None = None
    """None for speech alone."""
    face_mask: Bool[np.ndarray, "F H W"] | None = None
    mouth_opening: Float32[np.ndarray, " F"] | None = None
    """Distance of the inner lips over face height."""
    words: tuple[Word, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Everything else the json says."""


def read_sample(shards: ShardSet, i: int, timebase: Timebase) -> Sample:
    """Decode sample `i`; DataError says what in it is missing or damaged."""
    key, parts = shards.keys[i], shards.parts(i)
    sound = next((part for part in ("flac", "wav", "opus") if part in parts), None)
    if sound is None or "json" not in parts:
        raise DataError(f"sample '{key}' has the parts {parts}; expected json and flac, wav or opus at least")
    facts = _facts(key, shards.read(i, "json"))
    text, caption, speaker = (str(facts.pop(name, "")) for name in ("text", "caption", "speaker"))
    phones = tuple((str(symbol), float(start), float(stop)) for symbol, start, stop in facts.pop("phones", ()))
    words = facts.pop("words", None)
    timed = word_times(text, phones) if words is None else tuple(Word(text=w, start_s=s, end_s=e) for w, s, e in words)
    try:
        return Sample(
            key=key,
            text=text,
            caption=caption,
            speaker=speaker or key,
            waveform=decode_sound(shards.read(i, sound), timebase.sample_rate_hz),
            frames=decode_frames(shards.read(i, "mp4")) if "mp4" in parts else None,
            face_mask=decode_face_mask(shards.read(i, "npz")) if "npz" in parts else None,
            mouth_opening=decode_mouth_opening(shards.read(i, "npz")) if "npz" in parts else None,
            words=timed,
            facts=facts,
        )
    except (av.FFmpegError, ValueError, KeyError) as error:
        raise DataError(f"sample '{key}' cannot be decoded ({error}); make it again") from None


def decode_sound(content: bytes, rate_hz: int) -> Float32[np.ndarray, " samples"]:
    """Mono float32 at `rate_hz` out of the bytes of a sound file."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    with av.open(io.BytesIO(content)) as container:
        blocks = [block for frame in container.decode(audio=0) for block in resampler.resample(frame)]
        blocks += resampler.resample(None)
    return np.concatenate([block.to_ndarray()[0] for block in blocks]).astype(np.float32)


def decode_frames(content: bytes) -> UInt8[np.ndarray, "F H W 3"]:
    """All pictures of the bytes of a video file, RGB."""
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def decode_face_mask(content: bytes) -> Bool[np.ndarray, "F H W"] | None:
    """The face's mask out of the bytes of a clip's npz, None where it holds none."""
    with np.load(io.BytesIO(content), allow_pickle=False) as truth:
        if "face_mask" not in truth:
            return None
        shape = tuple(int(size) for size in truth["face_mask_shape"])
        return np.unpackbits(truth["face_mask"], count=int(np.prod(shape))).reshape(shape).astype(bool)


def decode_mouth_opening(content: bytes) -> Float32[np.ndarray, " F"] | None:
    """The mouth's opening out of the bytes of a clip's npz, None where it holds none."""
    with np.load(io.BytesIO(content), allow_pickle=False) as truth:
        return truth["mouth_opening"].astype(np.float32) if "mouth_opening" in truth else None


def _facts(key: str, content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise DataError(f"'{key}.json' is not JSON ({error}); make the sample again") from None
    if not isinstance(facts, dict) or "text" not in facts:
        raise DataError(f"'{key}.json' must be an object with at least 'text', got {str(facts)[:60]}")
    return facts
