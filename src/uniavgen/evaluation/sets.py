"""Prompt sets out of what a user has: rendered clips, a copy of GRID, a copy of EMTD.

A set is a folder: `prompts.jsonl`, and the files it names. Making it again gives the same files.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from uniavgen.artifacts import atomic_file, parse_json, read_json, read_text
from uniavgen.data.sample import decode_arrays
from uniavgen.errors import DataError
from uniavgen.evaluation.clip import SUFFIXES, find_clips
from uniavgen.evaluation.corruption import OTHER_VOICE_AND_EMOTION, ClipAttributes, fit_length, mismatched_partners
from uniavgen.evaluation.prompts import Prompt, write_prompts
from uniavgen.media.audio import read_audio, write_wav
from uniavgen.media.image import write_image
from uniavgen.media.mux import write_clip_keeping_video
from uniavgen.media.video import read_video
from uniavgen.timebase import Timebase

SET_FILE = "prompts.jsonl"
WORLD_SIZE, WORLD_SEED, WORLD_PEOPLE_PER_VOICE = 100, 4211, 2
"""The built-in set: its own people (they belong to the seed), sentences of the split `val`, two people a voice, so that
most clips have a reference voice in another clip of the same person; every second clip is drawn in flat tones, of which
only the face reader of `readers.traits` has seen any. [ours; the paper's set is half photos, half drawings]"""
SHADED = "shaded"
"""Split of rendered clips that do not say how they are drawn (`synth.Art`)."""
SOUNDS = (".wav", ".flac", ".mp3", ".m4a")

_GRID_NAME = re.compile(r"([blps])([bgrw])([abiw])([a-z])([0-9z])([anps])")
_GRID_WORDS: Sequence[Mapping[str, str]] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {},
    dict(
        zip("z123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], strict=True)
    ),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
# Name, types and default of what is read of a rendered clip's json.
_FACTS: Sequence[tuple[str, tuple[type, ...], Any]] = (
    *((name, (str,), None) for name in ("text", "caption", "speaker")),
    *((name, (str,), "") for name in ("gender", "mood", "art")),
    ("age", (int, float), 0),
)


@dataclass(frozen=True, kw_only=True)
class RenderedFiles:
    """Files of one rendered clip in a set."""

    folder: Path
    key: str

    @property
    def facts(self) -> Path:
        """Written last: where it is there, the others are."""
        return self.folder / "truth" / f"{self.key}.json"

    def check(self, parts: Mapping[str, bytes]) -> None:
        """Checks that `add` and `finish_rendered` can use the parts of a clip.

        Raises DataError, MediaError, or ConfigError for a key that is no id of a prompt. Writes nothing.
        """
        facts = _checked_facts(parse_json(parts["json"], f"'{self.key}.json'"), f"'{self.key}.json'")
        if not facts["text"].strip():
            raise DataError(f"'{self.key}.json' has an empty text; give what is spoken")
        Prompt(id=self.key, caption=facts["caption"], speech=facts["text"])
        decode_arrays(parts["npz"], f"'{self.key}.npz'")
        self._decode(parts)

    def add(self, parts: Mapping[str, bytes]) -> None:
        """Writes the parts of a clip as they lie in a shard (json, mp4, flac, npz)."""
        truth = self.folder / "truth"
        image, waveform = self._decode(parts)
        write_image(self.folder / "images" / f"{self.key}.png", image)
        write_wav(truth / f"{self.key}.wav", waveform, Timebase.sample_rate_hz)
        for ending in ("mp4", "npz", "json"):
            with atomic_file(truth / f"{self.key}.{ending}") as partial:
                partial.write_bytes(parts[ending])

    def _decode(self, parts: Mapping[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first frame of the video, and the waveform of the sound."""
        first = read_video(parts["mp4"], Timebase.fps, max_frames=1, trim=True, name=f"'{self.key}.mp4'")
        return first.frames[0], read_audio(parts["flac"], Timebase.sample_rate_hz, name=f"'{self.key}.flac'")


def finish_rendered(folder: Path, keys: Sequence[str]) -> list[Prompt]:
    """Writes the prompts of clips that were added, in the order of `keys`, and the twins of the clips.

    The reference voice of a clip is the sound of the next one of the same speaker, where there is another. A twin has
    the pictures of its clip and the sound of the next one with a blatantly other voice in another emotion.
    """
    files = {key: RenderedFiles(folder=folder, key=key).facts for key in keys}
    facts = {key: _checked_facts(read_json(path), str(path)) for key, path in files.items()}
    for key, other in zip(
        keys,
        mismatched_partners([ClipAttributes.from_facts(clip_facts) for clip_facts in facts.values()])[
            OTHER_VOICE_AND_EMOTION
        ],
        strict=True,
    ):
        if other is not None:
            _write_mismatched(folder, key, keys[other])
    prompts = [_rendered(folder, key, facts) for key in keys]
    write_prompts(folder / SET_FILE, prompts)
    return prompts


def _checked_facts(facts: dict[str, Any], origin: str) -> dict[str, Any]:
    """Returns what stands beside the truth of a rendered clip. Raises DataError where a value has another type."""
    for name, kinds, default in _FACTS:
        value = facts.get(name, default)
        if not isinstance(value, kinds) or isinstance(value, bool):
            expected = "a text" if str in kinds else "a number"
            raise DataError(f"{origin} has {str(value)[:60]!r} as its {name}, expected {expected}; make the clip again")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise DataError(
                f"{origin} has half of a surrogate pair in its {name}, which is no character; write it anew"
            )
    return facts


def _write_mismatched(folder: Path, key: str, other: str) -> None:
    rate_hz = Timebase.sample_rate_hz
    sound, other_sound = (read_audio(folder / "truth" / f"{name}.wav", rate_hz) for name in (key, other))
    mismatched, clip = (folder / part / f"{key}.mp4" for part in ("twins", "truth"))
    write_clip_keeping_video(mismatched, clip, fit_length(other_sound, len(sound)), rate_hz, {"sound": other})


def _rendered(folder: Path, key: str, facts: Mapping[str, Mapping[str, Any]]) -> Prompt:
    keys, clip_facts = list(facts), facts[key]
    place = keys.index(key)
    others = [other for other in keys[place + 1 :] + keys[:place] if facts[other]["speaker"] == clip_facts["speaker"]]
    voice = {"voice": folder / "truth" / f"{others[0]}.wav", "voice_text": facts[others[0]]["text"]} if others else {}
    return Prompt(
        id=key,
        caption=clip_facts["caption"],
        speech=clip_facts["text"],
        image=folder / "images" / f"{key}.png",
        audio=folder / "truth" / f"{key}.wav",
        video=folder / "truth" / f"{key}.mp4",
        truth=folder / "truth" / f"{key}.npz",
        person=clip_facts["speaker"],
        emotion=clip_facts.get("mood", ""),
        split=clip_facts.get("art", SHADED),
        **voice,
    )


def grid_prompts(source: Path) -> list[Prompt]:
    """Returns prompts for dubbing of GRID, Setting 3.0: videos of some speakers, voices of others. [paper 4.2, Table 5]

    `source/videos/SPEAKER/CODE.mpg` (any container) is dubbed; `source/references/SPEAKER/CODE.wav` holds recordings of
    speakers that no system was trained on. The sentence is in the code, as `bbaf2n`. The voices go round.
    """
    videos = _below(source / "videos", (*SUFFIXES, ".mpg"))
    voices = _below(source / "references", SOUNDS)
    return [
        Prompt(
            id=f"{video.parent.name}_{video.stem}",
            speech=grid_sentence(video.stem),
            video=video,
            voice=voice,
            voice_text=grid_sentence(voice.stem),
            split=video.parent.name,
        )
        for number, video in enumerate(videos)
        for voice in [voices[number % len(voices)]]
    ]


def grid_sentence(code: str) -> str:
    """Returns the sentence of a GRID file name; DataError for a name that is none."""
    match = _GRID_NAME.fullmatch(code.lower())
    if match is None:
        raise DataError(f"'{code}' is no name of a GRID recording, such as bbaf2n; remove the file or rename it")
    words = [table.get(letter, letter) for table, letter in zip(_GRID_WORDS, match.groups(), strict=True)]
    return " ".join(words)


def emtd_prompts(source: Path, folder: Path, num_frames: int) -> Iterator[Prompt]:
    """Yields audio-driven half bodies of EMTD: the first frame and the sound of each clip. [paper 4.2, Table 6]

    `source/ID.mp4` and, where the words are known, `source/ID.txt`. Pictures and sounds are written to `folder`.
    """
    clips = find_clips(source).files
    if not clips:
        raise DataError(f"{source} holds no clips; it should hold ID.mp4 and, where known, ID.txt with the words")
    base = Timebase()
    for name, video in clips.items():
        image, sound = folder / "images" / f"{name}.png", folder / "audio" / f"{name}.wav"
        words = video.with_suffix(".txt")
        write_image(image, read_video(video, base.fps, max_frames=1, trim=True).frames[0])
        length_s = float(Fraction(num_frames) / base.fps)
        write_wav(sound, read_audio(video, base.sample_rate_hz, max_s=length_s, trim=True), base.sample_rate_hz)
        speech = " ".join(read_text(words).split()) if words.is_file() else ""
        yield Prompt(id=name, speech=speech, image=image, audio=sound, video=video, split="emtd")


def _below(folder: Path, endings: Iterable[str]) -> list[Path]:
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in endings)
    if not files:
        raise DataError(f"{folder} holds no SPEAKER/CODE file that ends in {' '.join(endings)}; lay the corpus out so")
    return files
