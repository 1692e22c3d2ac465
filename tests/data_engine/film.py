"""A film with known truth: what is planted in it, where, and of which person it is.

Two films are made of different people, A and B, so that thresholds that are chosen on one can be judged on the other.
Each has a source of camera-like clips in a row, one of the same clips with faults, and sources of rendered people who
talk in uncut shots. Rendered people need the head data and the made-ahead speech that `uniavgen.synth` finds.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from tests.data_engine.drawn_films import panned, scene
from tests.data_engine.rendered_people import RATE_HZ, Monologue, RenderedPeople
from tests.data_engine.talking_films import music

from uniavgen.media.mux import write_clip
from uniavgen.media.video import read_video

CLIPS = Path(os.environ.get("UNIAVGEN_CLIPS", Path(__file__).parents[3] / "shared" / "clips"))
FPS: Final = Fraction(16)
CLIP_PX, CLIP_SIDE = 736, 480
"""Side of the square that is cut out of a clip, and what it is scaled to."""
LONG_S, SHORT_S = 6.2, 3.0
"""Least speech of a stretch that is kept, and of one whose voice is swapped."""
MOODS: Final = ("joint/angry.mp4", "joint/clam.mp4", "joint/happy.mov")
"""Clips of one person."""
DISSOLVE_FRAMES, LEAD_FRAMES = 8, 8
MUSIC_DB: Final = -9.0
"""Level of planted music over that of the speech."""
Frames = UInt8[np.ndarray, "F h w 3"]
Waveform = Float32[np.ndarray, " samples"]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a source with one thing planted in it."""

    start_s: float
    end_s: float
    person: str
    """Who is seen to speak; empty where nobody is."""
    fault: str = ""
    """What is wrong with it; empty where it is to be kept."""


@dataclass(frozen=True, kw_only=True)
class FilmSource:
    """A file of a film and the truth about it."""

    path: Path
    stretches: Sequence[Stretch]
    cuts_s: Sequence[float] = ()
    dissolves_s: Sequence[tuple[float, float]] = ()
    sound_late_ms: float = 0.0
    bars: float = 0.0
    """Part of the height that each of two black bars takes."""
    copy_of: str = ""
    """Name of the file whose beginning this one repeats, scaled down and encoded anew."""


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who is in a film, and by how much the sound of its sources is late."""

    clips: tuple[str, ...]
    voices: tuple[str, ...]
    """Of the rendered people."""
    strangers: tuple[str, ...]
    """Voices that are put in the place of others."""
    late_ms: Mapping[str, float] = field(default_factory=dict)


CASTS: Final = {
    "a": Cast(
        # Those of one person are apart: no detector sees a cut from a person in a room to the same one.
        clips=("joint/angry.mp4", "joint/2.mp4", "joint/clam.mp4", "joint/10.mp4", "joint/happy.mov"),
        voices=("af_bella", "am_michael", "bf_emma", "am_puck"),
        strangers=("af_sarah", "bm_lewis", "am_eric"),
        late_ms={"clips": 120, "people1": 240, "people2": -160, "people3": 80, "people4": -240},
    ),
    "b": Cast(
        clips=(
            "audio_driven/2.mp4",
            "continuation/t3_1.mp4",
            "reference_audio/2.mp4",
            "dubbing/t4_1.mp4",
            "audio_driven/1.mp4",
        ),
        voices=("af_nicole", "bm_george", "af_sky", "am_fenrir"),
        strangers=("bf_alice", "am_onyx", "bm_daniel"),
        late_ms={"clips": -160, "people1": -80, "people2": 200, "people3": -240, "people4": 160},
    ),
}
"""By the name of the film."""


@dataclass(frozen=True)
class Take:
    """Pictures and sound of one shot, and what is planted in it, in its own time."""

    frames: Frames
    sound: Waveform
    stretches: tuple[Stretch, ...]

    @property
    def length_s(self) -> float:
        """Returns its length."""
        return float(len(self.frames) / FPS)


Fault = Callable[[Take, Take, int], Take]
"""Plants a fault in a take; the second take is another person's."""


def make_film(folder: Path, name: str) -> list[FilmSource]:
    """Writes the sources of film `name` and their truth; those that are there already are not made again."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    sources = []
    for part, make in _Maker(folder, CASTS[name]).parts().items():
        truth = folder / "truth" / f"{part}.json"
        if not truth.is_file():
            source = make()
            truth.write_text(json.dumps({**asdict(source), "path": source.path.name}, indent=1))
        sources.append(_source_from(folder, json.loads(truth.read_text())))
    return sources


def _source_from(folder: Path, row: dict[str, Any]) -> FilmSource:
    stretches = [Stretch(**stretch) for stretch in row.pop("stretches")]
    return FilmSource(**{**row, "path": folder / row["path"]}, stretches=stretches)


class _Maker:
    def __init__(self, folder: Path, cast: Cast) -> None:
        self._folder, self._cast = folder, cast
        self._people = RenderedPeople(size=384)
        self._monologue = lru_cache(maxsize=None)(self._drawn)

    def parts(self) -> dict[str, Callable[[], FilmSource]]:
        """Returns what makes each source, by its name."""
        one, two, three, four = self._cast.voices
        first, second, third = self._cast.strangers
        return {
            "clips": lambda: self._write("clips", [_nobody(), *self._clips, _nobody()]),
            "clip_faults": lambda: self._write(
                "clip_faults",
                [*_faulty(self._clips, CLIP_FAULTS, seed=1), _swapped_whole(self._clips[0], self._clips[3].sound)],
            ),
            "people1": lambda: self._write("people1", [self._swapped(one, (second, first), 10), self._plain(two, 11)]),
            "people1_copy": lambda: self._copied("people1", self._swapped(one, (second, first), 10)),
            "people2": lambda: self._write(
                "people2", [self._swapped(two, (first, third), 20), self._plain(three, 21)], dissolve=True
            ),
            "people3": lambda: self._write(
                "people3", [self._plain(one, 30), self._swapped(three, (third, second), 31)], bars=0.125
            ),
            "people4": lambda: self._faults_of(self._plain(four, 40), self._plain(two, 41)),
        }

    @cached_property
    def _clips(self) -> list[Take]:
        return [clip_take(name) for name in self._cast.clips]

    def _faults_of(self, *plain: Take) -> FilmSource:
        return self._write("people4", [*plain, *_faulty(plain, PEOPLE_FAULTS, seed=2)])

    def _plain(self, voice: str, seed: int) -> Take:
        return _take_of(self._people.speak(voice, seed, (LONG_S,)))

    def _swapped(self, voice: str, strangers: Sequence[str], seed: int) -> Take:
        """Returns an uncut shot of four stretches, of which every second one has another's voice."""
        take = _take_of(self._monologue(voice, seed))
        sound, stretches = take.sound.copy(), list(take.stretches)
        for place, stranger in zip((1, 3), strangers, strict=True):
            swapped = stretches[place]
            first, last = round(swapped.start_s * RATE_HZ), round(swapped.end_s * RATE_HZ)
            foreign = np.resize(self._people.voice_only(stranger, seed), last - first)
            sound[first:last] = foreign * _level(sound[first:last]) / _level(foreign)
            stretches[place] = Stretch(start_s=swapped.start_s, end_s=swapped.end_s, person="", fault="swapped voice")
        return Take(take.frames, sound, tuple(stretches))

    def _drawn(self, voice: str, seed: int) -> Monologue:
        return self._people.speak(voice, seed, (LONG_S, SHORT_S, LONG_S, SHORT_S))

    def _write(self, name: str, takes: Sequence[Take], dissolve: bool = False, bars: float = 0.0) -> FilmSource:
        """Writes takes one after another, joined by cuts or dissolves."""
        frames, sound = takes[0].frames, takes[0].sound
        stretches, cuts, dissolves = list(takes[0].stretches), [], []
        for take in takes[1:]:
            blended = DISSOLVE_FRAMES if dissolve else 0
            start = len(frames) - blended
            if blended:
                shares = (np.arange(1, blended + 1) / (blended + 1))[:, None, None, None]
                mixed = frames[-blended:] * (1 - shares) + take.frames[:blended] * shares
                frames = np.concatenate([frames[:-blended], mixed.astype(np.uint8), take.frames[blended:]])
                dissolves.append((float(start / FPS), float((start + blended) / FPS)))
            else:
                frames = np.concatenate([frames, take.frames])
                cuts.append(float(start / FPS))
            at = round(start / FPS * RATE_HZ)
            sound = np.concatenate([sound[:at], take.sound])
            stretches += [_moved(stretch, float(start / FPS)) for stretch in take.stretches]
        if bars:
            bar = round(bars * frames.shape[1] / 2) * 2
            frames = np.pad(frames, ((0, 0), (bar, bar), (0, 0), (0, 0)))
        late_ms = self._cast.late_ms.get(name, 0.0)
        path = self._folder / f"{name}.mp4"
        write_clip(path, frames, FPS, _delayed(sound, late_ms), RATE_HZ, {})
        return FilmSource(
            path=path, stretches=stretches, cuts_s=cuts, dissolves_s=dissolves, sound_late_ms=late_ms,
            bars=bar / frames.shape[1] if bars else 0.0,
        )  # fmt: skip

    def _copied(self, name: str, take: Take) -> FilmSource:
        """Writes the first shot of a source again: without its first half second, three quarters as large."""
        path = self._folder / f"{name}_copy.mp4"
        skipped = 8
        side = take.frames.shape[1] * 3 // 4 // 2 * 2
        frames = _each(take.frames[skipped:], lambda image: image.resize((side, side), Image.Resampling.LANCZOS))
        at_s = float(skipped / FPS)
        late_ms = self._cast.late_ms[name]
        sound = _delayed(take.sound, late_ms)[round(at_s * RATE_HZ) :]
        write_clip(path, frames, FPS, sound, RATE_HZ, {})
        stretches = [
            Stretch(
                start_s=max(each.start_s - at_s, 0.0), end_s=each.end_s - at_s, person=each.person,
                fault=each.fault or "duplicate",
            )
            for each in take.stretches
        ]  # fmt: skip
        return FilmSource(path=path, stretches=stretches, sound_late_ms=late_ms, copy_of=f"{name}.mp4")


def clip_take(name: str) -> Take:
    """Returns a clip of a talking person, as a square."""
    video = read_video(CLIPS / name, FPS, rate_hz=RATE_HZ)
    frames, sound = video.frames, video.waveform
    assert sound is not None
    left = (frames.shape[2] - CLIP_PX) // 2
    box = (left, 0, left + CLIP_PX, CLIP_PX)
    frames = _each(frames, lambda image: image.resize((CLIP_SIDE, CLIP_SIDE), Image.Resampling.LANCZOS, box))
    num_samples = round(len(frames) / FPS * RATE_HZ)
    sound = np.pad(sound, (0, max(num_samples - len(sound), 0)))[:num_samples]
    person = "moods" if name in MOODS else name
    whole = Stretch(start_s=0.0, end_s=float(len(frames) / FPS), person=person)
    return Take(frames, sound.astype(np.float32), (whole,))


def _take_of(monologue: Monologue) -> Take:
    stretches = [Stretch(start_s=a, end_s=b, person=monologue.person) for a, b in pairwise(monologue.edges_s)]
    return Take(monologue.frames, monologue.sound, tuple(stretches))


def _nobody() -> Take:
    """Returns half a second without anybody, so that the sound of a clip can be moved over its ends."""
    frames = panned(scene(50, CLIP_SIDE, CLIP_SIDE), LEAD_FRAMES, 2)
    return Take(frames, np.zeros(round(LEAD_FRAMES / FPS * RATE_HZ), np.float32), ())


def _faulty(takes: Sequence[Take], faults: Sequence[Fault], seed: int) -> list[Take]:
    """Returns takes with a fault each, in turn."""
    count = len(takes)
    return [plant(takes[i % count], takes[(i + 1) % count], seed) for i, plant in enumerate(faults)]


def _music(take: Take, other: Take, seed: int) -> Take:
    del other
    level = _level(take.sound) * 10 ** (MUSIC_DB / 20)
    added = music(take.length_s + 0.1, seed)[: len(take.sound)]
    return _planted(take, "music", sound=(take.sound + level / _level(added) * added).astype(np.float32))


def _blurred(take: Take, other: Take, seed: int) -> Take:
    del other, seed
    radius = take.frames.shape[1] / 150
    return _planted(take, "blur", _each(take.frames, lambda image: image.filter(ImageFilter.GaussianBlur(radius))))


def _still(take: Take, other: Take, seed: int) -> Take:
    del other, seed
    return _planted(take, "still", np.repeat(take.frames[20:21], len(take.frames), axis=0))


def _upscaled(take: Take, other: Take, seed: int) -> Take:
    del other, seed
    side = take.frames.shape[1]
    return _planted(
        take,
        "upscaled",
        _each(take.frames, lambda image: image.resize((180, 180), Image.Resampling.LANCZOS).resize((side, side))),
    )


def _subtitled(take: Take, other: Take, seed: int) -> Take:
    del other
    size = take.frames.shape[1]
    text = ("Nobody knows what happens next", "We will be right back after this")[seed % 2]

    def burnt(image: Image.Image) -> Image.Image:
        draw = ImageDraw.Draw(image)
        place = (size // 2, size * 9 // 10)
        font = ImageFont.load_default(size // 20)
        draw.text(place, text, "white", font, anchor="mm", stroke_width=2, stroke_fill="black")
        return image

    return _planted(take, "subtitles", _each(take.frames, burnt))


def _two_people(take: Take, other: Take, seed: int) -> Take:
    del seed
    size, count = take.frames.shape[1], min(len(take.frames), len(other.frames))
    halves = [frames[:count, :, size // 4 : size // 4 + size // 2] for frames in (take.frames, other.frames)]
    shorter = Take(take.frames[:count], take.sound[: round(count / FPS * RATE_HZ)], _until(take, float(count / FPS)))
    return _planted(shorter, "two people", np.concatenate(halves, axis=2))


def _faceless(take: Take, other: Take, seed: int) -> Take:
    del other
    size = take.frames.shape[1]
    return _planted(take, "no face", panned(scene(seed + 40, size, size), len(take.frames), 2))


def _silent(take: Take, other: Take, seed: int) -> Take:
    del other
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=len(take.sound))
    return _planted(take, "silence", sound=noise.astype(np.float32))


def _swapped_whole(take: Take, sound: Waveform) -> Take:
    """Returns a clip with the sound of another person's."""
    num_samples = len(take.sound)
    return _planted(take, "swapped voice", sound=np.pad(sound, (0, num_samples))[:num_samples])


def _planted(take: Take, fault: str, frames: Frames | None = None, sound: Waveform | None = None) -> Take:
    last = max(stretch.end_s for stretch in take.stretches)
    whole = Stretch(start_s=take.stretches[0].start_s, end_s=last, person="", fault=fault)
    return Take(take.frames if frames is None else frames, take.sound if sound is None else sound, (whole,))


def _until(take: Take, end_s: float) -> tuple[Stretch, ...]:
    return tuple(
        Stretch(start_s=s.start_s, end_s=min(s.end_s, end_s), person=s.person, fault=s.fault) for s in take.stretches
    )


def _moved(stretch: Stretch, by_s: float) -> Stretch:
    return Stretch(
        start_s=stretch.start_s + by_s, end_s=stretch.end_s + by_s, person=stretch.person, fault=stretch.fault
    )


def _delayed(sound: Waveform, late_ms: float) -> Waveform:
    moved, delayed = round(late_ms / 1000 * RATE_HZ), np.zeros_like(sound)
    if moved >= 0:
        delayed[moved:] = sound[: len(sound) - moved]
    else:
        delayed[:moved] = sound[-moved:]
    return delayed


def _level(sound: Waveform) -> float:
    loud = sound[np.abs(sound) > 1e-3]
    return float(np.sqrt(np.mean(loud**2))) if len(loud) else 1e-6


def _each(frames: Frames, change: Callable[[Image.Image], Image.Image]) -> Frames:
    return np.stack([np.asarray(change(Image.fromarray(frame))) for frame in frames])


CLIP_FAULTS: Final = (_music, _blurred, _still, _upscaled, _subtitled, _two_people, _faceless, _silent)
PEOPLE_FAULTS: Final = (_music, _blurred, _still, _subtitled, _two_people)
