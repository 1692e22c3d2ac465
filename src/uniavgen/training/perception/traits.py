"""Training of the trait classifiers of faces and voices on the labels of the synthetic world. [ours]

Letters: k images, s side, b batch, l mel frames.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.data.rendered import RenderedSample, resample_to_speech_rate
from uniavgen.errors import DataError
from uniavgen.perception.traits import (
    AGES,
    FACE_PX,
    FACE_SHARE,
    MOOD_CLASSES,
    FaceTraitClassifier,
    VoiceTraitClassifier,
    age_class,
    mood_class,
    voice_statistics,
)
from uniavgen.perception.voice_features import MELS_PER_S, VOICE_MEL, PitchStatistics, waveform_log_mel
from uniavgen.synth import SyntheticWorld
from uniavgen.synth.arkit import INDEX, both
from uniavgen.training.loop import Callback
from uniavgen.training.objective import Objective
from uniavgen.training.perception.augmentation import Augmentation, uniform
from uniavgen.training.perception.run import PerceptionTrainConfig, initialise, train_network
from uniavgen.training.randomness import torch_generator

MARGIN = 1.25
"""Side of the stored crops over that of the network's input, as room for the augmentation."""
AUGMENTATION = Augmentation(side=FACE_PX, zoom=(0.85 / MARGIN, 1.15 / MARGIN), shift=0.1, strength=0.5)
"""Weak, since the moods of the world differ by little."""
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
"""Auxiliary targets of the face classifier: the shapes that moods are made of, and those of speech and blinking that
hide them. Without them it learns many times more slowly. [ours, measured]"""
SHAPES_WEIGHT = 2.0
"""Weight of their error, relative to the cross entropy."""
FACE_BATCH, VOICE_BATCH = 64, 128
SAME_AUGMENTATION = 4
"""Faces of a batch that are augmented alike, which saves a third of the time."""
MAX_FRAMES_PER_CLIP, FRAME_DISTANCE = 6, 5
"""Images of a clip that are used, at most, and frames from one to the next, at least half of it."""
VOICE_SECONDS = (4.0, 5.0)
"""Range of the length of an excerpt in training."""
VOICE_VIEWS = 3
"""Random excerpts of every voice whose statistics are computed, each with a noise floor of its own."""
STATISTICS_NOISE = 0.5
"""Standard deviation of the noise on the statistics of a voice, in their own standard deviations."""
NOISE_FLOOR = (12.0, 18.0)
"""Range of the noise floor below the loudest value, in nepers of power."""

Person = tuple[str, float, str, float]
"""Gender, years, mood and its strength."""


@dataclass(frozen=True, kw_only=True)
class TraitLabels:
    """True traits of people."""

    male: Float[Tensor, " k"]
    age: Int64[Tensor, " k"]
    mood: Int64[Tensor, " k"]

    @classmethod
    def of(cls, people: Iterable[Person]) -> "TraitLabels":
        """Returns the classes of people."""
        people = list(people)
        return cls(
            male=torch.tensor([float(gender == "male") for gender, *_ in people]),
            age=torch.tensor([age_class(years) for _, years, _, _ in people]),
            mood=torch.tensor([mood_class(mood, strength) for *_, mood, strength in people]),
        )

    def pick(self, indices: Int64[Tensor, " b"]) -> "TraitLabels":
        """Returns the labels at `indices`."""
        return TraitLabels(male=self.male[indices], age=self.age[indices], mood=self.mood[indices])

    def loss(self, logits: Float[Tensor, "k logits"], children_have_gender: bool) -> Float[Tensor, ""]:
        """Returns the sum of the cross entropies of gender, age and mood."""
        gender, ages, moods = logits.split([1, len(AGES), len(MOOD_CLASSES)], dim=1)
        counts = torch.ones_like(self.male) if children_have_gender else (self.age > 0).to(self.male)
        gender_loss = F.binary_cross_entropy_with_logits(gender[:, 0], self.male, reduction="none")
        return (
            (gender_loss * counts).sum() / counts.sum().clamp(min=1)
            + F.cross_entropy(ages, self.age, label_smoothing=0.02)
            + F.cross_entropy(moods, self.mood, label_smoothing=0.02)
        )


def person_of(clip: RenderedSample) -> Person:
    """Returns the traits of the speaker of a clip. Raises DataError where the clip lacks one."""
    facts = clip.sample.facts
    try:
        return facts["gender"], float(facts["age"]), facts["mood"], float(facts["mood_strength"])
    except KeyError as error:
        raise DataError(
            f"sample '{clip.sample.key}' does not say its {error}; use clips of `uniavgen synth`"
        ) from error


@dataclass(frozen=True, kw_only=True)
class FaceTraitDataset:
    """Squares around many faces in memory."""

    images: UInt8[Tensor, "k 3 s s"]
    labels: TraitLabels
    shapes: Float[Tensor, "k shapes"]
    """Weights of SHAPES as they were rendered."""

    @classmethod
    def from_clips(cls, clips: Iterable[RenderedSample]) -> "FaceTraitDataset":
        """Returns face crops of some frames of every clip. Raises DataError where there is no clip."""
        images, people, shapes = [], [], []
        for clip in clips:
            count = min(MAX_FRAMES_PER_CLIP, max(len(clip.frames) // FRAME_DISTANCE, 1) + 1)
            picks = np.linspace(0, len(clip.frames) - 1, count).round().astype(int)
            track = clip.face_track().at(picks)
            squares = track.crops(clip.frames[picks], round(FACE_PX * MARGIN), FACE_SHARE * MARGIN)
            images.append(np.moveaxis(squares, -1, 1))
            people += [person_of(clip)] * count
            shapes.append(clip.arkit_weights()[picks][:, [INDEX[name] for name in SHAPES]])
        if not images:
            raise DataError("there is no clip to learn from; render some with `uniavgen synth`")
        return cls(
            images=torch.from_numpy(np.concatenate(images)),
            labels=TraitLabels.of(people),
            shapes=torch.from_numpy(np.concatenate(shapes)),
        )


@dataclass(frozen=True, kw_only=True)
class FaceTraitBatch:
    """Augmented faces, their labels, and their standardised shapes."""

    images: Float[Tensor, "b 3 s s"]
    labels: TraitLabels
    shapes: Float[Tensor, "b shapes"]


class FaceTraitObjective(Objective[FaceTraitBatch]):
    """L = L_traits + SHAPES_WEIGHT L_shapes: cross entropies of the traits, and the square error of the shapes by a
    head that is dropped afterwards."""

    def __init__(self, dataset: FaceTraitDataset, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.dataset = dataset
        self.seed = seed
        self.classifier, self.shape_head = FaceTraitClassifier(), nn.Linear(FaceTraitClassifier.WIDTH, len(SHAPES))
        initialise(self.classifier, rng)
        initialise(self.shape_head, rng)
        self.classifier.to(memory_format=torch.channels_last)
        mean, deviation = dataset.shapes.mean(dim=0), dataset.shapes.std(dim=0, correction=0)
        self.shapes = (dataset.shapes - mean) / (deviation + 0.05)
        self.model = nn.ModuleDict({"classifier": self.classifier, "shape_head": self.shape_head})

    def batch(self, step: int) -> FaceTraitBatch:
        rng = torch_generator(self.seed, step)
        indices = torch.randint(len(self.dataset.images), (FACE_BATCH,), generator=rng)
        images = self.dataset.images[indices].float() / 127.5 - 1
        augmented = torch.cat([AUGMENTATION.apply(part, rng) for part in images.split(SAME_AUGMENTATION)])
        return FaceTraitBatch(
            images=augmented.to(memory_format=torch.channels_last),
            labels=self.dataset.labels.pick(indices),
            shapes=self.shapes[indices],
        )

    def losses(self, batch: FaceTraitBatch, step: int) -> dict[str, Tensor]:
        del step
        # Half precision is twice as fast where the processor has it.
        with torch.autocast("cpu", torch.bfloat16):
            embedding = self.classifier.embed(batch.images)
            logits, predicted_shapes = self.classifier.answer(embedding).float(), self.shape_head(embedding).float()
        traits = batch.labels.loss(logits, children_have_gender=True)
        shapes = F.mse_loss(predicted_shapes, batch.shapes)
        return {"total": traits + SHAPES_WEIGHT * shapes, "traits": traits, "shapes": shapes}


def train_face_traits(
    dataset: FaceTraitDataset, config: PerceptionTrainConfig, seed: int = 0, callbacks: Iterable[Callback] = ()
) -> FaceTraitClassifier:
    """Trains a face classifier from scratch; the same faces and settings give the same one."""
    objective = FaceTraitObjective(dataset, seed)
    train_network(objective, config, callbacks)
    return objective.classifier


@dataclass(frozen=True, kw_only=True)
class VoiceTraitDataset:
    """Spectra and pitches of many voices in memory."""

    log_mels: Float[Tensor, "k l mel"]
    """In half precision."""
    pitches: Float32[Tensor, "k 2"]
    labels: TraitLabels

    @classmethod
    def from_waveforms(cls, voices: Iterable[tuple[Float32[np.ndarray, " samples"], Person]]) -> "VoiceTraitDataset":
        """Returns the features of 16 kHz waveforms of one length. Raises DataError where there is none."""
        log_mels, pitches, people = [], [], []
        for waveform, person in voices:
            log_mels.append(torch.from_numpy(waveform_log_mel(waveform, VOICE_MEL)).half())
            pitches.append(torch.from_numpy(PitchStatistics.of(waveform).values()))
            people.append(person)
        if not log_mels:
            raise DataError("there is no voice to learn from; ask for one at least")
        return cls(log_mels=torch.stack(log_mels), pitches=torch.stack(pitches), labels=TraitLabels.of(people))


def world_voices(
    world: SyntheticWorld, seed: int, count: int
) -> Iterator[tuple[Float32[np.ndarray, " samples"], Person]]:
    """Yields the 16 kHz speech of the first clips of a world and the traits of its speaker; nothing is rendered."""
    for number in range(count):
        take = world.speak_clip(seed, number)
        waveform = resample_to_speech_rate(take.speech.waveform)
        identity = take.person.identity
        yield waveform, (identity.gender, identity.age, take.mood.name, take.strength)


@dataclass(frozen=True, kw_only=True)
class VoiceTraitBatch:
    """Noisy statistics of voices, and their labels."""

    statistics: Float[Tensor, "b statistics"]
    labels: TraitLabels


class VoiceTraitObjective(Objective[VoiceTraitBatch]):
    """Sum of the cross entropies of the traits of voices; the gender of children is left out."""

    model: VoiceTraitClassifier

    def __init__(self, dataset: VoiceTraitDataset, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.dataset = dataset
        self.seed = seed
        self.model = VoiceTraitClassifier()
        initialise(self.model, rng)
        self.views = torch.stack([_noisy_statistics(dataset, rng) for _ in range(VOICE_VIEWS)])
        self.deviation = self.views.std(dim=(0, 1))

    def batch(self, step: int) -> VoiceTraitBatch:
        rng = torch_generator(self.seed, step)
        indices = torch.randint(len(self.dataset.log_mels), (VOICE_BATCH,), generator=rng)
        statistics = self.views[torch.randint(VOICE_VIEWS, (VOICE_BATCH,), generator=rng), indices]
        noise = STATISTICS_NOISE * self.deviation * torch.randn(statistics.shape, generator=rng)
        return VoiceTraitBatch(statistics=statistics + noise, labels=self.dataset.labels.pick(indices))

    def losses(self, batch: VoiceTraitBatch, step: int) -> dict[str, Tensor]:
        del step
        return {"total": batch.labels.loss(self.model(batch.statistics), children_have_gender=False)}


def train_voice_traits(
    dataset: VoiceTraitDataset, config: PerceptionTrainConfig, seed: int = 0, callbacks: Iterable[Callback] = ()
) -> VoiceTraitClassifier:
    """Trains a voice classifier from scratch; the same voices and settings give the same one."""
    objective = VoiceTraitObjective(dataset, seed)
    train_network(objective, config, callbacks)
    return objective.model


def _noisy_statistics(dataset: VoiceTraitDataset, rng: torch.Generator) -> Float[Tensor, "k statistics"]:
    """Returns the statistics of a random part of every voice, with a noise floor."""
    statistics = []
    for log_mel, pitch in zip(dataset.log_mels.split(VOICE_BATCH), dataset.pitches.split(VOICE_BATCH), strict=True):
        count, length, _ = log_mel.shape
        part = min(int(uniform(rng, *VOICE_SECONDS, 1) * MELS_PER_S), length)
        start = int(torch.randint(length - part + 1, (1,), generator=rng))
        log_mel = log_mel[:, start : start + part].float()
        floor = log_mel.amax(dim=(1, 2), keepdim=True) - uniform(rng, *NOISE_FLOOR, count, 1, 1)
        noisy_pitch = pitch + 0.005 * torch.randn(pitch.shape, generator=rng)
        statistics.append(voice_statistics(torch.logaddexp(log_mel, floor), noisy_pitch))
    return torch.cat(statistics)
