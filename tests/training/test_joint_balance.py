"""What keeps two modalities healthy: weights that follow the step, times of their own, texts dropped apart."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import config, run

from uniavgen.config import dump, parse
from uniavgen.errors import ConfigError
from uniavgen.flow.schedule import shift
from uniavgen.models.parts import Part
from uniavgen.training.balance import BalanceCallback, part_gradient_norms
from uniavgen.training.config import TrainConfig
from uniavgen.training.curves import open_curves
from uniavgen.training.loss_weights import LossWeights
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.step import choose_text, flow_times

JOINT_ONLY = "stage.tasks.ratios={joint: 1, reference_audio: 0, continuation: 0, dubbing: 0, animation: 0}"


def weights(text: str) -> LossWeights:
    return config(f"stage.losses={text}").stage.losses


def test_weight_is_a_number_a_line_or_a_list_of_points():
    losses = weights("{video: 0.5, face_mask: {start: 0.4, end: 0.0}, audio: [[2, 0], [4, 1], [6, 1], [6, 0.25]]}")
    at = [losses.at(step, 8) for step in range(9)]
    assert [one["video"] for one in at] == [0.5] * 9
    assert [one["face_mask"] for one in at] == pytest.approx([0.4 - 0.05 * step for step in range(9)])
    assert [one["audio"] for one in at] == pytest.approx([0, 0, 0, 0.5, 1, 1, 0.25, 0.25, 0.25])
    assert {"video", "face_mask", "audio"} <= losses.used()
    assert "lip_motion" not in losses.used()


def test_lists_of_points_begin_anew_so_that_modalities_alternate():
    losses = weights(
        "{video: [[0, 1], [2, 1], [2, 0]], audio: [[0, 0], [2, 0], [2, 1]], repeat_every: 5, "
        "face_mask: {start: 1, end: 0}}"
    )
    at = [losses.at(step, 12) for step in range(12)]
    assert [one["video"] for one in at] == [1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert [one["audio"] for one in at] == [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0]
    assert at[6]["face_mask"] == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["[]", "[[3, 1], [2, 1]]", "[[0]]", "[[0, -1]]", "{start: 1}", "soon", "null"])
def test_weight_of_another_form_is_refused_by_its_path(text):
    with pytest.raises(ConfigError, match=r"stage\.losses[.:].?audio"):
        config(f"stage.losses.audio={text}")


def test_weights_survive_dump_and_parse():
    settings = config("stage.losses={video: [[0, 1], [3, 0.5]], audio: {start: 1, end: 2}, repeat_every: 9}")
    assert parse(TrainConfig, dump(settings)) == settings


def gradients(folder, tmp_path, *overrides, step=0):
    one = run(folder, tmp_path, config(JOINT_ONLY, "stage.dropout={alone: 0, no_text: 0}", *overrides))
    one.objective.losses(one.objective.batch(step), step)["total"].backward()
    return {name: p.grad for name, p in one.state.model.named_parameters()}


def test_weight_of_0_sends_nothing_back(folder, tmp_path):
    """Zeros would still feed weight decay and moments."""
    found = gradients(folder, tmp_path, "stage.losses={audio: 0, face_mask: 0, duration: 0}")
    assert found["audio_stem.proj_out.weight"] is None
    assert found["video_stem.proj_out.weight"].any()


def test_step_whose_weights_are_all_0_trains_nothing(folder, tmp_path):
    found = gradients(folder, tmp_path, "stage.losses={video: [[0, 0], [1, 1]], audio: 0, face_mask: 0, duration: 0}")
    assert all(gradient is None or not gradient.any() for gradient in found.values())
    later = gradients(folder, tmp_path, "stage.losses={video: [[0, 0], [1, 1]], audio: 0, duration: 0}", step=1)
    assert later["video_stem.proj_out.weight"].any()


def times(*overrides) -> tuple[torch.Tensor, torch.Tensor]:
    sigma = flow_times(SampleRandomness(seed=3, samples=range(50)), config(*overrides).stage, torch.device("cpu"))
    return sigma.video, sigma.audio


def test_flow_time_is_shared_unless_the_stage_says_otherwise():
    video, audio = times("stage.shift=5")
    assert torch.equal(video, audio)
    same, independent = times("stage.shift=5", "stage.flow_time=independent")
    assert torch.equal(same, video)
    assert abs(float(torch.corrcoef(torch.stack([same, independent]))[0, 1])) < 0.4
    assert not torch.equal(independent, audio)


def test_shift_of_the_audio_moves_its_times_alone():
    video, audio = times("stage.shift=5", "stage.audio_shift=2")
    assert torch.equal(video, times("stage.shift=5")[0])
    t = SampleRandomness(seed=3, samples=range(50)).times()
    assert torch.equal(audio, shift(t, 2.0))


@pytest.mark.parametrize("overrides", [["stage.flow_time=independent"], ["stage.audio_shift=1.0"]])
def test_stage_learns_with_times_of_each_modality(folder, tmp_path, overrides):
    settings = config(
        JOINT_ONLY, *overrides, "train.steps=20", "train.batch_size=4", "optim.lr=0.005", "optim.decay_steps=0"
    )
    one, totals = run(folder, tmp_path, settings), []
    one.train([lambda record, state: totals.append(record.values["total"])])
    again = float(one.objective.losses(one.objective.batch(0), 0)["total"].detach())
    assert again < 0.9 * totals[0]


def test_texts_are_dropped_apart(folder, tmp_path):
    batch = run(folder, tmp_path).objective.batch(0)
    given, dropped = batch.text, batch.uncond_text
    mixed = choose_text(given, dropped, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert torch.equal(mixed.caption[0], dropped.caption[0])
    assert torch.equal(mixed.caption[1], given.caption[1])
    assert mixed.speech_length.tolist() == [int(given.speech_length[0]), int(dropped.speech_length[1])]


def recorded(folder, name: str) -> dict[int, float]:
    events = EventAccumulator(str(folder)).Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_gradient_norms_of_parts_add_up_and_are_those_before_clipping(folder, tmp_path):
    norms = []
    for limit in (1e-3, 1e6):
        one = run(folder, tmp_path, config(JOINT_ONLY, "train.steps=1", f"optim.max_grad_norm={limit}"))
        one.train([lambda record, state: norms.append((part_gradient_norms(state.model, record.grad_norm), record))])
    (clipped, record), (whole, _) = norms
    squares = sum(float(norm) ** 2 for norm in clipped.values())
    assert squares**0.5 == pytest.approx(record.values["grad_norm"], rel=1e-5)
    assert {*clipped} == {part.value for part in Part}
    for part, norm in whole.items():
        assert float(norm) > 0
        assert float(clipped[part]) == pytest.approx(float(norm), rel=1e-4)


def test_curves_hold_the_balance_of_the_modalities(folder, tmp_path):
    tasks = "stage.tasks.ratios={joint: 0, reference_audio: 0, continuation: 0, dubbing: 1, animation: 1}"
    one, drawn = run(folder, tmp_path, config(tasks, "train.steps=8")), []
    with open_curves(tmp_path / "curves") as writer:
        balance = BalanceCallback(writer=writer, every=4)
        one.train([lambda record, state: drawn.append(record.task), balance])
    shares = recorded(tmp_path / "curves", "share/audio")
    # The first record is of one step.
    assert shares == {
        1: float(drawn[0] == "dubbing"),
        4: pytest.approx(drawn[1:4].count("dubbing") / 3),
        8: pytest.approx(drawn[4:].count("dubbing") / 4),
    }
    silent = recorded(tmp_path / "curves", "grad_norm/v2a" if drawn[7] == "animation" else "grad_norm/a2v")
    assert silent[8] == 0


def test_ratios_are_of_steps_with_both_modalities(folder, tmp_path):
    one = run(folder, tmp_path, config(JOINT_ONLY, "train.steps=2"))
    with open_curves(tmp_path / "curves") as writer:
        one.train([BalanceCallback(writer=writer, every=1)])
    norms = [recorded(tmp_path / "curves", f"grad_norm/{part}")[2] for part in ("audio", "video")]
    ratio = recorded(tmp_path / "curves", "audio_to_video/grad_norm")[2]
    assert ratio == pytest.approx(norms[0] / norms[1], rel=1e-5)
    assert recorded(tmp_path / "curves", "audio_to_video/loss")[2] > 0
