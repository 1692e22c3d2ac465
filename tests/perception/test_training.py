"""Readers learn from rendered clips, the same ones from the same clips."""

import numpy as np
import pytest
import torch

from uniavgen.data.rendered import RenderedSample, RenderedTruth
from uniavgen.data.sample import Sample
from uniavgen.errors import DataError
from uniavgen.training.loop import Callback
from uniavgen.training.perception.face_locator import FaceMaskDataset, train_face_locator
from uniavgen.training.perception.lip_sync import MAX_SHIFT, LipSyncDataset, contrastive_loss, train_lip_sync
from uniavgen.training.perception.run import PerceptionTrainConfig
from uniavgen.training.perception.traits import (
    FaceTraitDataset,
    TraitLabels,
    VoiceTraitDataset,
    train_face_traits,
    train_voice_traits,
)

from .cartoon import FPS, openings, talking_head, voice


def drawn(seed: int) -> RenderedSample:
    """The drawn head with what the renderer would know about it."""
    frames, opening = talking_head(3.0, seed)[:45], openings(3.0, FPS, seed)[:45].astype(np.float32)
    rows, columns = np.mgrid[:128, :128]
    mask = np.repeat(((((columns - 64) / 30) ** 2 + ((rows - 62) / 40) ** 2) < 1)[None], 45, axis=0)
    arkit = np.random.default_rng(seed).uniform(0, 1, (45, 52)).astype(np.float16)
    facts = {"gender": "female" if seed % 2 else "male", "age": 30.0, "mood": "sad", "mood_strength": 1.0}
    sound = np.repeat(voice(3.0, seed), 2)[: 45 * 1500]
    sample = Sample(
        key=str(seed),
        text="",
        caption="",
        speaker="",
        waveform=sound,
        frames=frames,
        facts=facts,
        arrays={"arkit": arkit},
    )
    return RenderedSample(sample=sample, truth=RenderedTruth(mouth_opening=opening, face_mask=mask))


@pytest.fixture(scope="module")
def clips() -> list[RenderedSample]:
    return [drawn(seed) for seed in range(3)]


def steps(count: int) -> PerceptionTrainConfig:
    return PerceptionTrainConfig(steps=count)


def note_total(losses: list[float]) -> Callback:
    """Appends the loss of every step."""
    return lambda record, _state: losses.append(record.values["total"])


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_locator_learns_where_the_face_is(clips):
    pictures, losses = FaceMaskDataset.from_clips(iter(clips)), []
    assert pictures.images.shape == (6, 4, 128, 128)
    locator = train_face_locator(pictures, steps(4), callbacks=[note_total(losses)])
    assert losses[-1] < losses[0]
    assert same(locator, train_face_locator(pictures, steps(4)))


def test_sync_reader_is_trained_in_two_parts_and_reproducibly(clips):
    mouths, losses = LipSyncDataset.from_clips(iter(clips)), []
    assert [len(pictures) for pictures in mouths.images] == [45] * 3
    assert torch.cat(list(mouths.lips)).std(dim=0) == pytest.approx(torch.ones(12), abs=0.1)
    one = train_lip_sync(mouths, steps(2), steps(3), callbacks=[note_total(losses)])
    assert len(losses) == 5
    assert np.isfinite(losses).all()
    assert same(one, train_lip_sync(mouths, steps(2), steps(3)))


def test_contrastive_loss_is_least_for_matching_streams():
    rng = torch.Generator().manual_seed(0)
    video = torch.nn.functional.normalize(torch.randn(3, 8, 4 * MAX_SHIFT, generator=rng), dim=1)
    logit_scale = torch.tensor(20.0, requires_grad=True)
    matching = contrastive_loss(video, video, logit_scale)
    assert matching < contrastive_loss(video, video.roll(2, dims=2), logit_scale)
    assert matching < contrastive_loss(video, video.roll(1, dims=0), logit_scale)
    matching.backward()
    assert torch.isfinite(logit_scale.grad)


def test_face_and_voice_readers_learn_who_it_is(clips):
    faces = FaceTraitDataset.from_clips(iter(clips))
    assert faces.images.shape == (18, 3, 100, 100)
    assert faces.labels.male.tolist() == [1.0] * 6 + [0.0] * 6 + [1.0] * 6
    one, two = (train_face_traits(faces, steps(2)) for _ in range(2))
    assert same(one, two)
    people = [("male", 30.0, "happy", 1.0), ("female", 10.0, "neutral", 0.0)]
    voices = VoiceTraitDataset.from_waveforms((voice(3.0, seed), people[seed]) for seed in range(2))
    losses: list[float] = []
    train_voice_traits(voices, steps(12), callbacks=[note_total(losses)])
    assert losses[-1] < losses[0]


def test_gender_of_a_child_does_not_count_for_a_voice():
    labels = TraitLabels.of([("male", 10.0, "sad", 1.0), ("male", 40.0, "sad", 1.0)])
    answers = torch.zeros(2, 11)
    answers[0, 0] = -9
    assert labels.loss(answers, children_have_gender=False) < labels.loss(answers, children_have_gender=True) - 2


def test_clips_without_an_identity_are_refused(clips):
    nobody = RenderedSample(
        sample=Sample(
            key="x", text="", caption="", speaker="", waveform=np.zeros(9, np.float32), frames=clips[0].frames
        ),
        truth=clips[0].truth,
    )
    with pytest.raises(DataError, match="does not say its 'gender'"):
        FaceTraitDataset.from_clips(iter([nobody]))
