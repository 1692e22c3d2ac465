"""People of the synthetic world who talk in uncut shots of any length, each with a voice and a face of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pytest
from jaxtyping import Float32, UInt8

from uniavgen.artifacts import read_json_lines
from uniavgen.errors import ConfigError, DataError
from uniavgen.synth.assets import cache_folder, find_heads, find_speech
from uniavgen.synth.head_data import load_head_data
from uniavgen.synth.speech import SAMPLE_RATE_HZ, Line, RecordedSpeech, Speech
from uniavgen.synth.visemes import Phone
from uniavgen.synth.world import SyntheticWorld
from uniavgen.timebase import Timebase

RATE_HZ: Final = SAMPLE_RATE_HZ
POPULATION: Final = 5
"""Seed of the people; each voice has one."""
PAUSE_S, BREAK_S = 0.35, 0.8
"""Between sentences of a stretch, and between stretches."""


@dataclass(frozen=True, kw_only=True)
class Monologue:
    """An uncut shot of one person."""

    person: str
    frames: UInt8[np.ndarray, "F h w 3"]
    sound: Float32[np.ndarray, " samples"]
    edges_s: tuple[float, ...]
    """Where its stretches meet, with the beginning and the end."""


class _LongSpeech:
    """Joins recorded sentences of one voice to stretches: what it speaks is chosen by `say`."""

    def __init__(self) -> None:
        folder = find_speech()
        self._recorded = RecordedSpeech(folder)
        rows = [row for _, row in read_json_lines(folder / "index.jsonl")]
        self._rows = {row["id"]: row for row in rows if 2.0 <= row["seconds"] < 5.0}
        self._spoken: Line | None = None
        self._stretches: list[list[str]] = []

    def say(self, voice: str, seed: int, lengths_s: Sequence[float]) -> None:
        """Chooses the sentences of the next clip: stretches of at least so many seconds, before pitch changes them."""
        ids = [id_ for id_, row in self._rows.items() if row["voice"] == voice]
        waiting = np.random.default_rng([seed, 3]).permutation(sorted(ids)).tolist()
        self._stretches = []
        for length_s in lengths_s:
            chosen: list[str] = []
            while sum(self._rows[id_]["seconds"] for id_ in chosen) < length_s:
                chosen.append(waiting.pop())
            self._stretches.append(chosen)
        ids = [id_ for chosen in self._stretches for id_ in chosen]
        text = " ".join(self._rows[id_]["text"] for id_ in ids)
        self._spoken = Line(utterance="+".join(ids), text=text, voice=voice, gender=self._rows[ids[0]]["gender"])

    def line(self, seed: int, number: int) -> Line:
        """Returns what was chosen."""
        del seed, number
        assert self._spoken is not None
        return self._spoken

    def synthesize(self, line: Line, rate: float) -> Speech:
        """Joins the recordings."""
        return self._joined(line, rate)[0]

    def edges_s(self, spoken: Speech) -> tuple[float, ...]:
        """Returns where stretches meet in the clip whose speech is `spoken`, by the phones of its sentences."""
        assert self._spoken is not None
        counts = self._joined(self._spoken, 1.0)[1]
        places = np.cumsum(counts)[:-1]
        middles = [(spoken.phones[place - 1][2] + spoken.phones[place][1]) / 2 for place in places]
        return (0.0, *(float(middle) for middle in middles), spoken.duration_s)

    def _joined(self, line: Line, rate: float) -> tuple[Speech, list[int]]:
        """Returns the speech, and how many phones each stretch has."""
        parts: list[np.ndarray] = []
        phones: list[Phone] = []
        counts: list[int] = []
        at_s = 0.0
        for chosen in self._stretches:
            before = len(phones)
            for id_ in chosen:
                speech = self._recorded.synthesize(replace(line, utterance=id_), rate)
                phones += [(symbol, start_s + at_s, end_s + at_s) for symbol, start_s, end_s in speech.phones]
                pause = np.zeros(round((BREAK_S if id_ == chosen[-1] else PAUSE_S) * RATE_HZ), np.float32)
                parts += [speech.waveform, pause]
                at_s += speech.duration_s + len(pause) / RATE_HZ
            counts.append(len(phones) - before)
        return Speech(waveform=np.concatenate(parts[:-1]), phones=tuple(phones)), counts


class RenderedPeople:
    """Draws monologues. Skips the test that asks for one where head data, speech or a renderer is not at hand."""

    def __init__(self, size: int) -> None:
        self._size = size
        try:
            self._speech = _LongSpeech()
            self._data = load_head_data(find_heads(), cache_folder())
        except (DataError, ConfigError) as missing:
            pytest.skip(str(missing))

    def speak(self, voice: str, seed: int, lengths_s: Sequence[float]) -> Monologue:
        """Returns a shot of the person with a voice, in stretches of at least about these lengths."""
        self._speech.say(voice, seed, lengths_s)
        timing = Timebase().clip(161 + 160 * len(lengths_s))
        spoken = self._world(timing).speak_clip(POPULATION, seed).speech
        end_s = spoken.phones[-1][2] + 0.4
        timing = Timebase().clip(1 + 4 * int(np.ceil(end_s * float(timing.base.fps) / 4)))
        clip = self._world(timing).render_clip(POPULATION, seed)
        edges = self._speech.edges_s(Speech(waveform=clip.waveform, phones=clip.truth.phones))
        return Monologue(person=clip.truth.identity, frames=clip.frames, sound=clip.waveform, edges_s=edges)

    def voice_only(self, voice: str, seed: int) -> Float32[np.ndarray, " samples"]:
        """Returns some speech of the person with a voice."""
        self._speech.say(voice, seed, (6.0,))
        return self._world(Timebase().clip(321)).speak_clip(POPULATION, seed).speech.waveform

    def _world(self, timing) -> SyntheticWorld:
        return SyntheticWorld(self._data, self._speech, self._size, timing, people_per_voice=1)
