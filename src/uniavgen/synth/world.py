"""The world: clip `number` of seed `seed` is always the same clip.

Every clip has a line, a person who fits the voice, a mood that both face and voice show, and a scene.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from uniavgen.synth.appearance import sample_look
from uniavgen.synth.captions import build_caption
from uniavgen.synth.clip import GroundTruth, RenderedClip
from uniavgen.synth.head_data import HeadData
from uniavgen.synth.moods import MOODS, NEUTRAL, STRENGTHS, Mood
from uniavgen.synth.motion import perform
from uniavgen.synth.people import Person, sample_person
from uniavgen.synth.prosody import apply_tone, pad_to_length, resample_pitch
from uniavgen.synth.renderer import Art, Renderer
from uniavgen.synth.scene import sample_scene
from uniavgen.synth.speech import SAMPLE_RATE_HZ, Line, Speech, SpeechSource
from uniavgen.timebase import ClipTiming, Timebase

_LATEST_START_S = 0.35
_MOOD_SHARES = (0.34, 0.22, 0.22, 0.22)


@dataclass(frozen=True, kw_only=True)
class SpokenClip:
    """The audio of a clip and its transcript, before anything is drawn."""

    line: Line
    person: Person
    mood: Mood
    strength: float
    speech: Speech
    """As long as the clip."""


class SyntheticWorld:
    """Draws clips of one size and length; keep one a process."""

    def __init__(
        self,
        data: HeadData,
        speech: SpeechSource,
        size: int = 128,
        timing: ClipTiming | None = None,
        people_per_voice: int = 8,
        art: Art = Art.SHADED,
        movement: float = 1.0,
    ) -> None:
        self._data, self._speech, self._size, self._art, self._movement = data, speech, size, art, movement
        self.timing = timing or Timebase().clip(81)
        self._people_per_voice = people_per_voice
        self._person = lru_cache(maxsize=None)(self._draw_person)

    def render_clip(self, seed: int, number: int) -> RenderedClip:
        """Renders clip `number` of the world `seed`."""
        rng = np.random.default_rng([seed, number])
        take = self._take(seed, number, rng)
        line, person, mood, strength, speech = take.line, take.person, take.mood, take.strength, take.speech
        frames, fps = self.timing.num_frames, float(self.timing.base.fps)
        performance = perform(speech.phones, mood, strength, frames, fps, rng, self._movement)
        look = sample_look(person.style, rng)
        scene = sample_scene(frames, fps, rng, self._art, self._movement)
        head = person.head(self._data)
        posed = head.pose(performance.arkit, performance.rotation, performance.lean)
        pictures, masks = self._renderer.render(head, posed, look, scene.shot(head))
        truth = GroundTruth(
            text=line.text,
            caption=build_caption(person.identity, person.style, mood, strength, scene.place, rng),
            phones=speech.phones,
            mouth_opening=head.mouth_opening(performance.arkit),
            arkit=performance.arkit,
            head_pose=performance.rotation,
            identity=person.name,
            speaker=person.name,
            gender=person.identity.gender,
            age=round(person.identity.age, 1),
            voice=line.voice,
            mood=mood.name,
            strength=strength,
            place=scene.place,
            framing=scene.framing,
            art=self._art,
            utterance=line.utterance,
        )
        return RenderedClip(
            key=f"{seed:04d}-{number:06d}",
            fps=fps,
            frames=pictures,
            face_masks=masks,
            waveform=speech.waveform,
            sample_rate_hz=SAMPLE_RATE_HZ,
            truth=truth,
        )

    def speak_clip(self, seed: int, number: int) -> SpokenClip:
        """Returns the audio and transcript of clip `number` of the world `seed`; nothing is drawn."""
        return self._take(seed, number, np.random.default_rng([seed, number]))

    def _take(self, seed: int, number: int, rng: np.random.Generator) -> SpokenClip:
        line = self._speech.line(seed, number)
        person = self._person(seed, line.voice, line.gender, int(rng.integers(self._people_per_voice)))
        mood = MOODS[rng.choice(len(MOODS), p=_MOOD_SHARES)]
        strength = 0.0 if mood is NEUTRAL else float(rng.choice(STRENGTHS))
        speech = self._spoken(line, person, mood, strength, rng)
        return SpokenClip(line=line, person=person, mood=mood, strength=strength, speech=speech)

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._size, self._art)

    def _draw_person(self, population: int, voice: str, gender: str, number: int) -> Person:
        return sample_person(self._data, population, voice, gender, number)

    def _spoken(self, line: Line, person: Person, mood: Mood, strength: float, rng: np.random.Generator) -> Speech:
        """Returns the line in the person's voice and mood, placed in a clip's length."""
        samples = round(self.timing.duration_s * SAMPLE_RATE_HZ)
        room_s = samples / SAMPLE_RATE_HZ
        pitch = person.pitch * (1 + strength * (mood.pitch - 1))
        # Tuning up also shortens, so the source speaks as much slower.
        raw = self._speech.synthesize(line, rate=(1 + strength * (mood.rate - 1)) / pitch)
        spoken = resample_pitch(raw, max(pitch, raw.duration_s / (room_s - 0.05)))
        tone_db = {hz: strength * gain_db for hz, gain_db in mood.tone_db.items()}
        loud = apply_tone(spoken.waveform, strength * mood.gain_db, tone_db)
        start_s = rng.uniform(0, max(0.0, min(_LATEST_START_S, room_s - spoken.duration_s)))
        return pad_to_length(Speech(waveform=loud, phones=spoken.phones), start_s, samples)
