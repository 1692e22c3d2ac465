"""Only what was noisy counts, masks are judged as the paper says, and the mask weight fades."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import SETTINGS, TIMING, config, model, run

from uniavgen.config.ramp import LinearSchedule
from uniavgen.flow.guidance import Dropout
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.mixture import StepSpec
from uniavgen.tasks.table import Task
from uniavgen.training.loss_weights import LossWeights
from uniavgen.training.losses import (
    Losses,
    LossTerm,
    duration_loss,
    face_mask_loss,
    face_weights,
    lip_motion_loss,
    velocity_loss,
)
from uniavgen.training.mouth_probe import LinearMouthProbe
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.step import step_losses

GIVEN = {
    Task.JOINT: (1, 0, 0),
    Task.REFERENCE_AUDIO: (1, 0, 23),
    Task.CONTINUATION: (2, 31, 0),
    Task.DUBBING: (TIMING.num_latent_frames, 0, 0),
    Task.ANIMATION: (1, TIMING.num_audio_tokens, 0),
}


def batch(folder, task, settings=None):
    frames, tokens, reference = GIVEN[task]
    drawn = StepSpec(task=task, given_frames=frames, given_tokens=tokens, reference_tokens=reference)
    return run(folder, Path(folder), settings).objective.dataset.data.batch(drawn, range(3))


def randomness_of(step):
    return SampleRandomness(seed=0, samples=range(3 * step, 3 * step + 3))


def mean(term):
    return float(term.sum.detach()) / float(term.count)


def total(losses, weights, step, num_steps):
    return losses.means().total(weights, step, num_steps)


def test_velocity_loss_is_the_mean_over_noisy_tokens():
    predicted, target = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    carries = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])
    squares = [
        float((predicted[b, s, m] - target[b, s, m]) ** 2) for b in range(2) for s in (1, 3, 4) for m in range(7)
    ]
    loss = velocity_loss(predicted, target, carries, dim=1)
    assert mean(loss) == pytest.approx(sum(squares) / len(squares), rel=1e-5)
    assert velocity_loss(predicted, target, torch.zeros(5), dim=1) is None


def test_velocity_loss_weighs_faces_more_where_configured():
    truth = torch.tensor([[[1.0, 0.0, 0.5, 0.0]], [[float("nan")] * 4]])
    weights = face_weights(truth, LossWeights(face_focus=4.0).at(0, 1), rows=4, columns=4)
    assert weights.shape == (2, 1, 1, 4, 4)
    assert weights[0, 0, 0].tolist() == [[5.0, 5.0, 1.0, 1.0]] * 2 + [[3.0, 3.0, 1.0, 1.0]] * 2
    assert (weights[1] == 1).all()
    low = face_weights(truth, LossWeights(mouth_focus=3.0).at(0, 1), rows=4, columns=4)
    assert low[0, 0, 0].tolist() == [[1.0] * 4] * 2 + [[2.5, 2.5, 1.0, 1.0]] * 2
    # An error inside the face counts by its share of all weight; equal errors everywhere count as without weights.
    target, inside = torch.zeros(2, 3, 1, 4, 4), torch.zeros(2, 3, 1, 4, 4)
    inside[0, :, :, :2, :2] = 1
    loss = velocity_loss(inside, target, torch.ones(1), 2, weights)
    assert mean(loss) == pytest.approx(4 * 5 / float(weights.sum()))
    assert mean(velocity_loss(target + 2, target, torch.ones(1), 2, weights)) == pytest.approx(4.0)


def test_face_mask_loss_sums_layers_and_leaves_out_unknown_faces():
    masks, truth = torch.rand(4, 3, 2, 5), torch.rand(4, 2, 5)
    truth[1] = torch.nan
    truth[2] = 0.0
    per_clip = [
        sum(float(((masks[b, layer] - truth[b]) ** 2).mean()) for layer in range(3)) for b in (0, 3)
    ]  # fmt: skip
    assert mean(face_mask_loss(masks, truth)) == pytest.approx(sum(per_clip) / 2, rel=1e-5)
    assert face_mask_loss(masks[1:3], truth[1:3]).count == 0
    assert face_mask_loss(masks, None).count == 0


@pytest.mark.parametrize("task", list(Task))
def test_velocity_loss_leaves_out_given_parts(folder, task):
    """The loss equals a loop over noisy places of the model's own prediction."""
    from uniavgen.batch import AVPair
    from uniavgen.flow.path import interpolate
    from uniavgen.flow.schedule import shift
    from uniavgen.tasks.conditioning import ClipConditions, condition
    from uniavgen.tasks.table import TASKS

    settings = config("stage.dropout={alone: 0.0, no_text: 0.0}", "stage.losses.pace=0").stage
    clips, tiny = batch(folder, task), model()
    randomness = SampleRandomness(seed=0, samples=range(12, 15))
    losses = step_losses(tiny, clips, randomness, settings)
    frames, tokens, _ = GIVEN[task]
    clean = AVPair(video=clips.latents, audio=clips.mel)
    noise = randomness.noise_like(clean)
    sigma = shift(randomness.times(), settings.shift)
    given = ClipConditions(
        reference_image=clips.latents[:, :, :1],
        given_video=clips.latents[:, :, :frames],
        given_audio=clips.mel[:, :tokens] if tokens else None,
        reference_audio=clips.reference_audio,
    )
    video, audio = condition(task, interpolate(clean, noise, sigma), given, sigma)
    prediction = tiny(video, audio, clips.text, gate=TASKS[task].gate).velocity
    parts = {}
    if frames < TIMING.num_latent_frames:
        difference = (prediction.video - (noise.video - clean.video))[:, :, frames:]
        parts["video"] = difference.square().mean().item()
    if tokens < TIMING.num_audio_tokens:
        difference = (prediction.audio - (noise.audio - clean.audio))[:, tokens:]
        parts["audio"] = difference.square().mean().item()
    values = {name: mean(term) for name, term in losses.named().items() if name != "face_mask" and term.count}
    assert values == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize("task", list(Task))
def test_training_step_reads_no_value_from_the_device_of_the_model(folder, task):
    """Tensors on the meta device have no values, so whoever asks for one fails."""
    clips, on_device = batch(folder, task), model().to("meta")
    settings = config().stage
    for step in range(4):
        losses = step_losses(on_device, clips, randomness_of(step), settings)
        total(losses, settings.losses, step, 4).backward()
    assert all(parameter.grad.is_meta for parameter in on_device.blocks[0].video.parameters())


def test_training_step_is_a_pure_function(folder):
    clips, tiny, settings = batch(folder, Task.JOINT), model(), config().stage
    first = step_losses(tiny, clips, randomness_of(1), settings)
    again = step_losses(tiny, clips, randomness_of(1), settings)
    other = step_losses(tiny, clips, randomness_of(2), settings)
    assert torch.equal(first.audio.sum, again.audio.sum)
    assert torch.equal(first.video.sum, again.video.sum)
    assert not torch.equal(first.audio.sum, other.audio.sum)


@pytest.mark.parametrize("task", [Task.JOINT, Task.REFERENCE_AUDIO, Task.CONTINUATION])
def test_audio_branch_alone_has_the_gradients_of_a_closed_gate(folder, task):
    dropout = "stage.dropout={alone: 1.0, no_text: 0.0}"
    no_given_part = "stage.tasks.ratios={dubbing: 0, animation: 0}"
    alone, both = config(dropout, no_given_part, "stage.branches=audio").stage, config(dropout).stage
    clips, tiny, randomness = batch(folder, task), model(), randomness_of(0)
    losses = step_losses(tiny, clips, randomness, alone)
    assert losses.video is None
    assert losses.face_mask is None
    expected = step_losses(tiny, clips, randomness, both).audio
    assert mean(losses.audio) == pytest.approx(mean(expected), rel=1e-5)


def test_dropped_texts_do_not_matter(folder):
    """With texts dropped, what the clip's own texts say makes no difference."""
    settings = config("stage.dropout={alone: 0.0, no_text: 1.0}").stage
    clips, tiny, randomness = batch(folder, Task.JOINT), model(), randomness_of(0)
    before = step_losses(tiny, clips, randomness, settings)
    clips.text.speech.fill_(3)
    clips.text.caption.fill_(1.0)
    after = step_losses(tiny, clips, randomness, settings)
    assert torch.equal(before.audio.sum, after.audio.sum)
    assert torch.equal(before.video.sum, after.video.sum)


def test_mask_weight_falls_linearly_to_nothing():
    ramp = LinearSchedule(start=0.1, end=0.0)
    assert [ramp.at(step, 4) for step in range(5)] == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0])


def test_total_loss_is_the_weighted_sum_of_its_parts():
    losses = Losses(video=LossTerm(torch.tensor(8.0), 4), audio=None, face_mask=LossTerm(torch.tensor(5.0), 1))
    weights = LossWeights(video=0.5, face_mask=LinearSchedule(start=0.2, end=0.0))
    assert float(total(losses, weights, 5, 10)) == pytest.approx(0.5 * 2 + 0.1 * 5)


def test_branches_are_both_trained_by_every_two_way_task(folder):
    tiny = model()
    losses = step_losses(tiny, batch(folder, Task.JOINT), randomness_of(0), config().stage)
    total(losses, config().stage.losses, 0, 10).backward()
    without = [name for name, p in tiny.named_parameters() if p.grad is None]
    assert without == ["audio_stem.padding"]
    assert SETTINGS.num_layers == 3


def test_duration_loss_compares_symbols_of_known_times_only():
    pace = torch.tensor([[9.0, 4.0, 5.0, 6.0]])
    assert mean(duration_loss(pace, torch.tensor([[1.0, 4.0, 11.0, math.nan]]))) == pytest.approx((1 + 4) / 2)
    assert duration_loss(pace, torch.tensor([[1.0, math.nan, 11.0, math.nan]])).count == 0


def test_duration_predictor_learns_from_symbol_times_alone(folder):
    paced = config("stage.losses.pace=1.0", "stage.losses.video=0", "stage.losses.audio=0").stage
    paced = replace(paced, dropout=Dropout(alone=0.0, no_text=0.0))
    speech = replace(SETTINGS.audio.speech, initial_symbol_duration=20.0, leading_silence=2.0)
    transformer = UniAVGenTransformer.from_settings(replace(SETTINGS, audio=replace(SETTINGS.audio, speech=speech)))
    clips, randomness = batch(folder, Task.REFERENCE_AUDIO), randomness_of(0)
    optimizer = torch.optim.Adam(transformer.parameters(), lr=0.02)
    values = []
    for _ in range(30):
        losses = step_losses(transformer, clips, randomness, paced)
        optimizer.zero_grad()
        total(losses, paced.losses, 0, 1).backward()
        optimizer.step()
        values.append(mean(losses.duration))
    assert values[-1] < 0.1 * values[0]
    assert step_losses(transformer, batch(folder, Task.ANIMATION), randomness, paced).duration.count == 0
    assert step_losses(model(), clips, randomness, paced).duration is None


def test_losses_never_read_values_of_predictions():
    """Predictions on the meta device have no values: reading one is an error, as it would be a wait on a GPU."""

    def prediction(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, device="meta")

    truth, timestamps = torch.rand(2, 3, 6), torch.tensor([[1.0, 2.0, math.nan], [math.nan, 3.0, 5.0]])
    video, probe = prediction(2, 5, 3, 4, 6), LinearMouthProbe(torch.zeros(5 * 36))
    mask = torch.tensor([0.0, 1.0, 1.0])
    weights = prediction(2, 1, 3, 4, 6)
    losses = [
        velocity_loss(video, video, mask, dim=2, weights=weights),
        velocity_loss(prediction(2, 3, 7), prediction(2, 3, 7), mask, dim=1),
        face_mask_loss(prediction(2, 4, 3, 6), truth),
        duration_loss(prediction(2, 3), timestamps),
        lip_motion_loss(video, video, mask, truth, probe),
    ]
    assert [loss.sum.shape for loss in losses] == [()] * 5
    assert all(loss.sum.is_meta for loss in losses)
