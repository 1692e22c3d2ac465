"""The rule by which losses reach parts is what gradients say, and what no loss reaches is refused before training."""

import logging
from dataclasses import replace

import pytest
import torch
from tiny_run import SETTINGS, config, model, run

from uniavgen.errors import ConfigError
from uniavgen.models.parts import Part, part_of
from uniavgen.tasks.mixture import StepSpec
from uniavgen.tasks.table import Task
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.reach import check_trained, reached_parts
from uniavgen.training.step import step_losses
from uniavgen.workflows.train import open_stage

FRAMES, TOKENS = SETTINGS.timebase.clip(9).num_latent_frames, SETTINGS.timebase.clip(9).num_audio_tokens
SPECS = {
    Task.JOINT: (1, 0, 0),
    Task.REFERENCE_AUDIO: (1, 0, 23),
    Task.CONTINUATION: (2, 31, 0),
    Task.DUBBING: (FRAMES, 0, 0),
    Task.ANIMATION: (1, TOKENS, 0),
}
LOSSES = ("video", "audio", "face_mask", "duration")


def transformer_settings(layers: tuple[int, ...] | str, face_modulation: str):
    speech = replace(SETTINGS.audio.speech, initial_symbol_duration=20.0, leading_silence=2.0)
    interaction = replace(SETTINGS.interaction, layers=layers, face_modulation=face_modulation)
    return replace(SETTINGS, audio=replace(SETTINGS.audio, speech=speech), interaction=interaction)


@pytest.mark.parametrize(
    ("layers", "face_modulation"), [("interleaved", "supervised"), ((1,), "supervised"), ("all", "none"), ((), "none")]
)
@pytest.mark.parametrize("task", list(Task))
def test_parts_that_losses_reach_are_those_with_a_gradient(folder, tmp_path, task, layers, face_modulation):
    settings = transformer_settings(layers, face_modulation)
    stage = config("stage.dropout={alone: 0.0, no_text: 0.0}").stage
    frames, tokens, reference = SPECS[task]
    spec = StepSpec(task=task, given_frames=frames, given_tokens=tokens, reference_tokens=reference)
    batch = run(folder, tmp_path).objective.dataset.data.batch(spec, range(2))
    trained = model(settings=settings)
    means = step_losses(trained, batch, SampleRandomness(seed=0, samples=range(2)), stage).means().means
    for loss in LOSSES:
        found: set[Part | None] = set()
        if loss in means:
            gradients = torch.autograd.grad(means[loss], [*trained.parameters()], retain_graph=True, allow_unused=True)
            names = [name for name, _ in trained.named_parameters()]
            found = {part_of(name) for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
        assert reached_parts(task, {loss}, stage, settings) == found, loss


ONLY_ANIMATION = "stage.tasks.ratios={animation: 1, joint: 0, reference_audio: 0, continuation: 0, dubbing: 0}"
ONLY_DUBBING = "stage.tasks.ratios={animation: 0, joint: 0, reference_audio: 0, continuation: 0, dubbing: 1}"


@pytest.mark.parametrize(
    ("trainable", "overrides", "missed"),
    [
        ("[v2a]", [ONLY_ANIMATION], "v2a"),
        ("['blocks.*.interaction.*']", [ONLY_ANIMATION], "v2a"),
        ("[video, a2v]", [ONLY_DUBBING], "a2v"),
        ("[a2v, v2a]", ["stage.dropout={alone: 1.0, no_text: 0.0}"], "a2v, v2a"),
        ("[video]", [ONLY_ANIMATION, "stage.losses={video: 0, face_mask: 0, duration: 1}"], "video"),
        ("[audio]", ["stage.branches=audio", "stage.losses.audio=0", "stage.tasks.ratios.dubbing=0",
                     "stage.tasks.ratios.animation=0"], "audio"),
    ],
)  # fmt: skip
def test_trained_part_that_no_loss_reaches_is_refused(trainable, overrides, missed):
    with pytest.raises(ConfigError, match=f"no loss reaches {missed}, which would be trained.*out of stage.trainable"):
        check_trained(config(f"stage.trainable={trainable}", *overrides))


def test_refusal_comes_before_data_and_weights_are_read(tmp_path):
    settings = config("stage.trainable=[v2a]", ONLY_ANIMATION)
    with (
        pytest.raises(ConfigError, match="no loss reaches v2a"),
        open_stage(settings, ["missing"], tmp_path / "out", torch.device("cpu"), init=[tmp_path / "missing"]),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_weight_that_is_above_0_at_some_step_counts():
    check_trained(
        config("stage.trainable=[audio]", ONLY_DUBBING, "stage.losses={audio: [[0, 0], [2, 0], [2, 1]], duration: 0}")
    )


def test_all_that_learns_is_trained_where_everything_is_named(folder, tmp_path, caplog):
    settings = config(ONLY_ANIMATION, "train.steps=2")
    with caplog.at_level(logging.WARNING):
        check_trained(settings)
    assert "the audio branch is trained without a loss of its own" in caplog.text
    one = run(folder, tmp_path, settings)
    before = {name: value.clone() for name, value in one.state.model.named_parameters()}
    one.train()
    moved = {part_of(name) for name, p in one.state.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {*Part} - {Part.V2A}


def test_adapter_that_no_loss_reaches_is_refused():
    with pytest.raises(ConfigError, match=r"no loss reaches v2a, .*out of lora\.targets"):
        check_trained(config("lora.targets=[video, v2a]", ONLY_ANIMATION))
    check_trained(config("lora.targets=[video, a2v]", ONLY_ANIMATION))
