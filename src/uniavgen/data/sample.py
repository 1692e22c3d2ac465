"""One clip of a data set as it lies in a shard (`data.shards`): the parts of a sample and their decoding.

    KEY.json   `text` (transcript); optionally `caption`, `speaker` (clips of one speaker serve as each other's
               reference audio), `words` or `phones` as (text, start s, end s), and any facts
    KEY.txt    the transcript, where the json has none
    KEY.mp4    (or another of VIDEO_PARTS) the video; missing in a clip of speech alone
    KEY.flac   (or another of AUDIO_PARTS) the audio; without one it is the video's own
    KEY.npz    the truth of a rendered clip: face mask, mouth opening, ...

A sample without transcript or audio, or with a damaged part, is a DataError that says why.

Letters: F pixel frames, H W frame size.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from uniavgen.artifacts import decode_npz, parse_json
from uniavgen.data.shards import ShardSet
from uniavgen.data.words import Phone, Word, word_times
from uniavgen.errors import DataError, MediaError
from uniavgen.media.audio import read_audio
from uniavgen.media.video import read_video
from uniavgen.timebase import Timebase

AUDIO_PARTS: Final = ("flac", "wav", "opus", "ogg", "mp3", "m4a", "aac")
VIDEO_PARTS: Final = ("mp4", "mov", "mkv", "webm", "m4v", "avi")
"""The first of these that a sample has is read."""
_REMEDY: Final = "make the sample again"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A decoded clip."""

    key: str
    text: str
    """Transcript of the whole clip, never empty."""
    caption: str
    speaker: str
    waveform: Float32[np.ndarray, " samples"]
    """Mono in [-1, 1], at the timebase's rate, aligned with frame 0."""
    frames: UInt8[np.ndarray, "F H W 3"] | None = None
    """At the timebase's rate, upright. None for speech alone."""
    face_mask: Bool[np.ndarray, "F H W"] | None = None
    mouth_opening: Float32[np.ndarray, " F"] | None = None
    """Distance of the inner lips over face height."""
    words: tuple[Word, ...] = ()
    """Empty where their times are unknown."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Everything else in the json."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Everything in the npz, see `decode_arrays`."""


def read_sample(
    shards: ShardSet, i: int, timebase: Timebase, *, max_frames: int | None = None, with_video: bool = True
) -> Sample:
    """Decodes sample `i`. Raises DataError, which names the part that is missing or damaged.

    max_frames: number of frames after which the video is cut.
    with_video: False leaves frames and the renderer's truth out.
    """
    key, parts = shards.keys[i], shards.parts(i)
    facts = parse_json(shards.read(i, "json"), f"'{key}.json'", remedy=_REMEDY) if "json" in parts else {}
    text = _transcript(key, facts.pop("text", None), shards.read(i, "txt") if "txt" in parts else None)
    video_part, audio_part = _first(VIDEO_PARTS, parts), _first(AUDIO_PARTS, parts)
    sound_part = audio_part or video_part
    if sound_part is None:
        raise DataError(f"sample '{key}' has neither audio nor video, only the parts {', '.join(parts)}")
    try:
        waveform = read_audio(shards.read(i, sound_part), timebase.sample_rate_hz, name=f"'{key}.{sound_part}'")
        frames = None
        if with_video and video_part is not None:
            content, name = shards.read(i, video_part), f"'{key}.{video_part}'"
            frames = read_video(content, timebase.fps, max_frames=max_frames, trim=True, name=name).frames
    except MediaError as error:
        raise DataError(f"sample '{key}' cannot be decoded: {error}") from error
    arrays = decode_arrays(shards.read(i, "npz"), f"'{key}.npz'") if with_video and "npz" in parts else {}
    _check_truth(key, arrays, frames)
    return Sample(
        key=key,
        text=text,
        caption=_optional_text(key, "caption", facts),
        speaker=_optional_text(key, "speaker", facts) or key,
        waveform=waveform,
        frames=frames,
        face_mask=arrays.get("face_mask"),
        mouth_opening=arrays.get("mouth_opening"),
        words=_parse_words(key, text, facts),
        facts=facts,
        arrays=arrays,
    )


def decode_arrays(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Reads the truth of a clip's npz in one go: `face_mask` bool [F, H, W], `mouth_opening` float32 [F], ...

    `name` names the file in the DataError that a damaged one raises.
    """
    arrays = decode_npz(content, name)
    if "face_mask" in arrays:
        # Stored with one bit a pixel.
        try:
            bits, shape = arrays["face_mask"], tuple(int(size) for size in arrays.pop("face_mask_shape"))
            arrays["face_mask"] = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{name} holds no face mask ({error}); {_REMEDY}") from error
    if "mouth_opening" in arrays:
        try:
            arrays["mouth_opening"] = arrays["mouth_opening"].astype(np.float32)
        except ValueError as error:
            raise DataError(f"{name} holds no mouth opening ({error}); {_REMEDY}") from error
    return arrays


def _first(names: Iterable[str], parts: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in parts), None)


def _transcript(key: str, text: Any, txt: bytes | None) -> str:
    """Returns the text of the json or else that of the txt, stripped. Raises DataError where there is none."""
    if text is None and txt is not None:
        try:
            text = txt.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"'{key}.txt' is not UTF-8 text (byte {error.start}); {_REMEDY}") from error
    if not isinstance(text, str):
        got = "no transcript" if text is None else f"{str(text)[:60]!r} as its transcript"
        raise DataError(f"sample '{key}' has {got}, expected 'text' in its json or a txt")
    if not text.strip():
        raise DataError(f"sample '{key}' has an empty transcript; give what is spoken")
    return text.strip()


def _optional_text(key: str, name: str, facts: dict[str, Any]) -> str:
    """Takes a text out of the facts; empty where it is missing or null."""
    value = facts.pop(name, None)
    if value is not None and not isinstance(value, str | int):
        raise DataError(f"'{key}.json' has {str(value)[:60]!r} as its {name}, expected a text")
    return "" if value is None else str(value)


def _check_truth(key: str, arrays: Mapping[str, np.ndarray], frames: np.ndarray | None) -> None:
    """Raises DataError where the truth is none of these frames."""
    mask, opening = arrays.get("face_mask"), arrays.get("mouth_opening")
    if opening is not None and opening.ndim != 1:
        raise DataError(f"'{key}.npz' has a mouth_opening of shape {opening.shape}, expected one number a frame")
    if mask is not None and (mask.ndim != 3 or (frames is not None and mask.shape[1:] != frames.shape[1:3])):
        size = "frames" if frames is None else f"frames of {frames.shape[1:3]}"
        raise DataError(f"'{key}.npz' has a face_mask of shape {mask.shape}, which does not fit its {size}")


def parse_phones(origin: str, entries: Any) -> tuple[Phone, ...]:
    """Returns (text, start s, end s) triples of JSON; none for null. Raises DataError for anything else."""
    try:
        phones = tuple((str(symbol), float(start), float(end)) for symbol, start, end in entries or ())
    except (TypeError, ValueError) as error:
        raise DataError(f"{origin} has words or phones that are no (text, start, end): {error}") from error
    if any(not 0 <= start_s <= end_s for _, start_s, end_s in phones):
        raise DataError(f"{origin} has words or phones that end before they start")
    return phones


def _parse_words(key: str, text: str, facts: dict[str, Any]) -> tuple[Word, ...]:
    """Takes `words` or, where there are none, `phones` out of the facts."""
    phones, words = (parse_phones(f"'{key}.json'", facts.pop(name, None)) for name in ("phones", "words"))
    if words:
        return tuple(Word(text=word, start_s=start_s, end_s=end_s) for word, start_s, end_s in words)
    return word_times(text, phones)
