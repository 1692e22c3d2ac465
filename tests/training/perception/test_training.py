"""Readers learn from rendered clips, the same ones from the same clips."""

import io

import numpy as np
import pytest
import torch

from uniavgen.data.sample import Sample
from uniavgen.errors import DataError
from uniavgen.training.perception.fitting import Fitting
from uniavgen.training.perception.face_locator import MaskedPictures, train_locator
from uniavgen.training.perception.lip_sync import REACH, Mouths, contrast, train_sync
from uniavgen.training.perception.traits import Faces, Labels, Voices, train_face_reader, train_voice_reader
from uniavgen.data.rendered import RenderedSample, RenderedTruth

from .cartoon import FPS, openings, talking_head, voice


def drawn(seed: int) -> RenderedSample:
    """The drawn head with what the renderer would know about it."""
    frames, opening = talking_head(3.0, seed)[:45], openings(3.0, FPS, seed)[:45].astype(np.float32)
    rows, columns = np.mgrid[:128, :128]
    mask = np.repeat(((((columns - 64) / 30) ** 2 + ((rows - 62) / 40) ** 2) < 1)[None], 45, axis=0)
    stored = io.BytesIO()
    arkit = np.random.default_rng(seed).uniform(0, 1, (45, 52)).astype(np.float16)
    np.savez(stored, mouth_opening=opening, arkit=arkit)
    facts = {"gender": "female" if seed % 2 else "male", "age": 30.0, "mood": "sad", "mood_strength": 1.0}
    sound = np.repeat(voice(3.0, seed), 2)[: 45 * 1500]
    sample = Sample(key=str(seed), text="", caption="", speaker="", waveform=sound, frames=frames, facts=facts)
    return RenderedSample(sample=sample, truth=RenderedTruth(mouth_opening=opening, face_mask=mask), npz=stored.getvalue())


@pytest.fixture(scope="module")
def clips() -> list[RenderedSample]:
    return [drawn(seed) for seed in range(3)]


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_locator_learns_where_the_face_is(clips):
    pictures, losses = MaskedPictures.gather(iter(clips)), []
    assert pictures.pictures.shape == (6, 4, 128, 128)
    locator = train_locator(pictures, Fitting(steps=4), 0, lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    assert same(locator, train_locator(pictures, Fitting(steps=4)))


def test_a_sync_reader_is_trained_in_two_parts_and_reproducibly(clips):
    mouths, losses = Mouths.gather(iter(clips)), []
    assert [len(pictures) for pictures in mouths.pictures] == [45] * 3
    assert torch.cat(list(mouths.lips)).std(dim=0) == pytest.approx(torch.ones(12), abs=0.1)
    one = train_sync(mouths, Fitting(steps=2), Fitting(steps=3), 0, lambda step, loss: losses.append((step, loss)))
    assert [step for step, _ in losses] == [0, 1, 2, 3, 4]
    assert np.isfinite([loss for _, loss in losses]).all()
    assert same(one, train_sync(mouths, Fitting(steps=2), Fitting(steps=3)))


def test_contrast_is_least_where_streams_belong_together():
    rng = torch.Generator().manual_seed(0)
    seen = torch.nn.functional.normalize(torch.randn(3, 8, 4 * REACH, generator=rng), dim=1)
    warmth = torch.tensor(20.0, requires_grad=True)
    own = contrast(seen, seen, warmth)
    assert own < contrast(seen, seen.roll(2, dims=2), warmth)
    assert own < contrast(seen, seen.roll(1, dims=0), warmth)
    own.backward()
    assert torch.isfinite(warmth.grad)


def test_face_and_voice_readers_learn_who_it_is(clips):
    faces = Faces.gather(iter(clips))
    assert faces.pictures.shape == (18, 3, 100, 100)
    assert faces.labels.male.tolist() == [1.0] * 6 + [0.0] * 6 + [1.0] * 6
    one, two = (train_face_reader(faces, Fitting(steps=2)) for _ in range(2))
    assert same(one, two)
    people = [("male", 30.0, "happy", 1.0), ("female", 10.0, "neutral", 0.0)]
    voices = Voices.gather((voice(3.0, seed), people[seed]) for seed in range(2))
    losses: list[float] = []
    train_voice_reader(voices, Fitting(steps=12), 0, lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0]


def test_a_childs_gender_does_not_count_for_a_voice():
    labels = Labels.of([("male", 10.0, "sad", 1.0), ("male", 40.0, "sad", 1.0)])
    answers = torch.zeros(2, 11)
    answers[0, 0] = -9
    assert labels.loss(answers, children_have_gender=False) < labels.loss(answers, children_have_gender=True) - 2


def test_clips_that_do_not_say_who_it_is_are_refused(clips):
    nobody = RenderedSample(
        sample=Sample(
            key="x", text="", caption="", speaker="", waveform=np.zeros(9, np.float32), frames=clips[0].frames
        ),
        truth=clips[0].truth,
        npz=clips[0].npz,
    )
    with pytest.raises(DataError, match="does not say its 'gender'"):
        Faces.gather(iter([nobody]))
