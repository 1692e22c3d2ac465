"""Training of the readers of faces and voices on what the synthetic world knows of its people. [ours]

Letters: k pictures, s side, b batch, l mel frames.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.errors import DataError
from uniavgen.evaluation.readers.fitting import Distortion, Fitting, between, fit, initialise
from uniavgen.evaluation.readers.hearing import MELS_PER_S, VOICE_MEL, Tone, mel
from uniavgen.evaluation.readers.rendered import arkit_of, at_speech_rate, true_path
from uniavgen.evaluation.readers.traits import (
    AGES,
    FACE_PX,
    FACE_SHARE,
    KINDS,
    FaceReader,
    VoiceReader,
    age_of,
    heard,
    kind_of,
)
from uniavgen.evaluation.truth import TruthClip
from uniavgen.synth import SyntheticWorld
from uniavgen.synth.arkit import INDEX, both

MARGIN = 1.25
"""Side of the squares that are kept over that of what is looked at."""
DISTORTED = Distortion(side=FACE_PX, zoom=(0.85 / MARGIN, 1.15 / MARGIN), shift=0.1, strength=0.5)
"""Gently: moods of the world differ by little."""
SHAPES = (
    *both("browDown", 1.0),
    "browInnerUp",
    *both("browOuterUp", 1.0),
    *both("cheekSquint", 1.0),
    *both("eyeSquint", 1.0),
    *both("noseSneer", 1.0),
    *both("mouthSmile", 1.0),
    *both("mouthFrown", 1.0),
    "mouthUpperUpLeft",
    "mouthStretchLeft",
    "mouthShrugLower",
    "mouthPucker",
    "jawOpen",
    "eyeBlinkLeft",
)
"""What a face reader is also taught: the shapes that moods are made of, and those of speech and blinking that hide
them. Without them it learns many times more slowly. [ours, measured]"""
SHAPES_SHARE = 2.0
"""Weight of their error beside the answers' cross entropy."""
FACES, VOICES, TOGETHER = 64, 128, 4
"""Of a batch; faces that are distorted alike, which saves a third of the time."""
FRAMES_A_CLIP, APART = 6, 5
"""Pictures of a clip that are kept, at most, and frames from one to the next, at least half of it."""
SECONDS = (4.0, 5.0)
"""How long a voice is heard in training."""
VIEWS = 3
"""How often every voice is heard, each time a part of it with noise."""
SHAKEN = 0.5
"""What is added to the numbers of a voice, in their deviations."""
FLOOR = (12.0, 18.0)
"""How far noise lies below the loudest, in nepers of power."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Truth about people."""

    male: Float[Tensor, " k"]
    age: Int64[Tensor, " k"]
    kind: Int64[Tensor, " k"]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, float, str, float]]) -> "Labels":
        """Out of gender, years, mood and its strength."""
        rows = list(rows)
        return cls(
            male=torch.tensor([float(gender == "male") for gender, *_ in rows]),
            age=torch.tensor([age_of(years) for _, years, _, _ in rows]),
            kind=torch.tensor([kind_of(mood, strength) for *_, mood, strength in rows]),
        )

    def pick(self, places: Int64[Tensor, " b"]) -> "Labels":
        """Those at `places`."""
        return Labels(male=self.male[places], age=self.age[places], kind=self.kind[places])

    def loss(self, answers: Float[Tensor, "k answers"], children_have_gender: bool) -> Float[Tensor, ""]:
        """Cross entropy of gender, age and emotion together."""
        gender, ages, kinds = answers.split([1, len(AGES), len(KINDS)], dim=1)
        counts = torch.ones_like(self.male) if children_have_gender else (self.age > 0).to(self.male)
        of_gender = F.binary_cross_entropy_with_logits(gender[:, 0], self.male, reduction="none")
        return (
            (of_gender * counts).sum() / counts.sum().clamp(min=1)
            + F.cross_entropy(ages, self.age, label_smoothing=0.02)
            + F.cross_entropy(kinds, self.kind, label_smoothing=0.02)
        )


def labels_of(clip: TruthClip) -> tuple[str, float, str, float]:
    """Gender, years, mood and strength; DataError for clips that do not say."""
    facts = clip.sample.facts
    try:
        return facts["gender"], float(facts["age"]), facts["mood"], float(facts["mood_strength"])
    except KeyError as error:
        raise DataError(f"sample '{clip.sample.key}' does not say its {error}; use clips of `uniavgen synth`") from None


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Squares around many faces in memory."""

    pictures: UInt8[Tensor, "k 3 s s"]
    labels: Labels
    shapes: Float[Tensor, "k shapes"]
    """Weights of SHAPES as they were drawn."""

    @classmethod
    def gather(cls, clips: Iterator[TruthClip]) -> "Faces":
        """Some frames of every clip."""
        pictures, rows, shapes = [], [], []
        for clip in clips:
            count = min(FRAMES_A_CLIP, max(len(clip.frames) // APART, 1) + 1)
            picks = np.linspace(0, len(clip.frames) - 1, count).round().astype(int)
            where = true_path(clip).at(picks)
            squares = where.squares(clip.frames[picks], round(FACE_PX * MARGIN), FACE_SHARE * MARGIN)
            pictures.append(np.moveaxis(squares, -1, 1))
            rows += [labels_of(clip)] * count
            shapes.append(arkit_of(clip)[picks][:, [INDEX[name] for name in SHAPES]])
        if not pictures:
            raise DataError("there is no clip to learn from; render some with `uniavgen synth`")
        return cls(
            pictures=torch.from_numpy(np.concatenate(pictures)),
            labels=Labels.of(rows),
            shapes=torch.from_numpy(np.concatenate(shapes)),
        )


def train_face_reader(
    faces: Faces, config: Fitting, seed: int = 0, on_step: Callable[[int, float], None] | None = None
) -> FaceReader:
    """A reader trained from nothing; the same faces and settings give the same one."""
    rng = torch.Generator().manual_seed(seed)
    reader, teacher = FaceReader(), nn.Linear(FaceReader.WIDTH, len(SHAPES))
    initialise(reader, rng)
    initialise(teacher, rng)
    reader.to(memory_format=torch.channels_last)
    shapes = (faces.shapes - faces.shapes.mean(dim=0)) / (faces.shapes.std(dim=0, correction=0) + 0.05)

    def loss() -> Tensor:
        places = torch.randint(len(faces.pictures), (FACES,), generator=rng)
        pictures = faces.pictures[places].float() / 127.5 - 1
        drawn = torch.cat([DISTORTED.apply(part, rng) for part in pictures.split(TOGETHER)])
        # Half precision is twice as fast where the processor has it.
        with torch.autocast("cpu", torch.bfloat16):
            known = reader.know(drawn.to(memory_format=torch.channels_last))
            answers, shown = reader.answer(known).float(), teacher(known).float()
        of_answers = faces.labels.pick(places).loss(answers, children_have_gender=True)
        return of_answers + SHAPES_SHARE * F.mse_loss(shown, shapes[places])

    fit([reader, teacher], loss, config, on_step)
    return reader


@dataclass(frozen=True, kw_only=True)
class Voices:
    """What is heard of many voices, in memory."""

    spectra: Float[Tensor, "k l mel"]
    """In half precision."""
    tones: Float32[Tensor, "k 2"]
    labels: Labels

    @classmethod
    def gather(
        cls, sounds: Iterable[tuple[Float32[np.ndarray, " samples"], tuple[str, float, str, float]]]
    ) -> "Voices":
        """Out of 16 kHz sounds of one length and what is true of them."""
        spectra, tones, rows = [], [], []
        for waveform, row in sounds:
            spectra.append(torch.from_numpy(mel(waveform, VOICE_MEL)).half())
            tones.append(torch.from_numpy(Tone.of(waveform).values()))
            rows.append(row)
        if not spectra:
            raise DataError("there is no voice to learn from; ask for one at least")
        return cls(spectra=torch.stack(spectra), tones=torch.stack(tones), labels=Labels.of(rows))


def takes(world: SyntheticWorld, seed: int, count: int) -> Iterator[tuple[np.ndarray, tuple[str, float, str, float]]]:
    """Sounds of the first clips of a world at 16 kHz, and what is true of them; nothing is drawn."""
    for number in range(count):
        take = world.speak_clip(seed, number)
        waveform = at_speech_rate(take.speech.waveform)
        identity = take.person.identity
        yield waveform, (identity.gender, identity.age, take.mood.name, take.strength)


def train_voice_reader(
    voices: Voices, config: Fitting, seed: int = 0, on_step: Callable[[int, float], None] | None = None
) -> VoiceReader:
    """A reader trained from nothing; the same voices and settings give the same one."""
    rng = torch.Generator().manual_seed(seed)
    reader = VoiceReader()
    initialise(reader, rng)
    views = torch.stack([_heard(voices, rng) for _ in range(VIEWS)])
    spread = views.std(dim=(0, 1))

    def loss() -> Tensor:
        places = torch.randint(len(voices.spectra), (VOICES,), generator=rng)
        chosen = views[torch.randint(VIEWS, (VOICES,), generator=rng), places]
        shaken = chosen + SHAKEN * spread * torch.randn(chosen.shape, generator=rng)
        return voices.labels.pick(places).loss(reader(shaken), children_have_gender=False)

    fit([reader], loss, config, on_step)
    return reader


def _heard(voices: Voices, rng: torch.Generator) -> Float[Tensor, "k numbers"]:
    """Of a part of every voice, with a floor of noise."""
    numbers = []
    for spectra, tones in zip(voices.spectra.split(VOICES), voices.tones.split(VOICES), strict=True):
        count, length, _ = spectra.shape
        part = min(int(between(rng, *SECONDS, 1) * MELS_PER_S), length)
        start = int(torch.randint(length - part + 1, (1,), generator=rng))
        spectra = spectra[:, start : start + part].float()
        floor = spectra.amax(dim=(1, 2), keepdim=True) - between(rng, *FLOOR, count, 1, 1)
        numbers.append(heard(torch.logaddexp(spectra, floor), tones + 0.005 * torch.randn(tones.shape, generator=rng)))
    return torch.cat(numbers)
