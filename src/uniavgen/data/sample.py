"""One clip of a data set as it lies in a shard: KEY.json, KEY.mp4, KEY.flac (or wav, opus), KEY.npz.

Only the audio and, in the json, `text` are always present. The json also takes `caption`, `speaker` (clips of the same
speaker serve as each other's reference audio), `words` or `phones` with times, and any facts; the npz holds the ground
truth of a synthetic world. A clip of speech alone has no mp4 and no npz.

Letters: F pixel frames, H W frame size.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from uniavgen.artifacts import decode_npz
from uniavgen.data.shards import ShardSet
from uniavgen.data.words import Word, word_times
from uniavgen.errors import DataError, MediaError
from uniavgen.media.packing import decode_audio, decode_frames
from uniavgen.timebase import Timebase

AUDIO_PARTS = ("flac", "wav", "opus")
"""The first of these that a sample has is read."""


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
    """Everything else in the json."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Everything in the npz, see `decode_arrays`."""


def read_sample(shards: ShardSet, i: int, timebase: Timebase) -> Sample:
    """Decodes sample `i`. Raises DataError, which names the part that is missing or damaged."""
    key, parts = shards.keys[i], shards.parts(i)
    audio = next((part for part in AUDIO_PARTS if part in parts), None)
    if audio is None or "json" not in parts:
        raise DataError(f"sample '{key}' has the parts {parts}; expected json and flac, wav or opus at least")
    facts = _parse_facts(key, shards.read(i, "json"))
    text, caption, speaker = (str(facts.pop(name, "")) for name in ("text", "caption", "speaker"))
    words = _parse_words(key, text, facts)
    arrays = decode_arrays(shards.read(i, "npz"), f"'{key}.npz'") if "npz" in parts else {}
    return Sample(
        key=key,
        text=text,
        caption=caption,
        speaker=speaker or key,
        waveform=_decode(shards, i, audio, partial(decode_audio, rate_hz=timebase.sample_rate_hz)),
        frames=_decode(shards, i, "mp4", decode_frames) if "mp4" in parts else None,
        face_mask=arrays.get("face_mask"),
        mouth_opening=arrays.get("mouth_opening"),
        words=words,
        facts=facts,
        arrays=arrays,
    )


def decode_arrays(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Reads the ground truth of a clip's npz in one go: `face_mask` bool [F, H, W], `mouth_opening` float32 [F], ...

    `name` names the file in the DataError that a damaged one raises.
    """
    arrays = decode_npz(content, name)
    if "face_mask" in arrays:
        # Stored with one bit a pixel.
        try:
            bits, shape = arrays["face_mask"], tuple(int(size) for size in arrays.pop("face_mask_shape"))
            arrays["face_mask"] = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{name} holds no face mask ({error}); make the sample again") from error
    if "mouth_opening" in arrays:
        arrays["mouth_opening"] = arrays["mouth_opening"].astype(np.float32)
    return arrays


def _decode(shards: ShardSet, i: int, part: str, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
    content = shards.read(i, part)
    try:
        return decode(content)
    except MediaError as error:
        raise DataError(f"'{shards.keys[i]}.{part}' is damaged ({error}); make the sample again") from error


def _parse_facts(key: str, content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise DataError(f"'{key}.json' is not JSON ({error}); make the sample again") from error
    if not isinstance(facts, dict) or "text" not in facts:
        raise DataError(f"'{key}.json' must be an object with at least 'text', got {str(facts)[:60]}")
    return facts


def _parse_words(key: str, text: str, facts: dict[str, Any]) -> tuple[Word, ...]:
    """Takes `words` or, where there are none, `phones` out of the facts."""
    try:
        phones = tuple((str(symbol), float(start), float(stop)) for symbol, start, stop in facts.pop("phones", ()))
        words = facts.pop("words", None)
        if words is None:
            return word_times(text, phones)
        return tuple(Word(text=word, start_s=start, end_s=end) for word, start, end in words)
    except (TypeError, ValueError) as error:
        raise DataError(f"'{key}.json' has words or phones that are no (text, start, end): {error}") from error
