"""Training learns, averages, freezes and reads what it should, whoever reads the data."""

import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from tiny_run import config, model, run

from uniavgen.config import dump, load, parse, preset_names
from uniavgen.distributed import ParallelContext
from uniavgen.errors import ConfigError, DataError
from uniavgen.training.config import TrainConfig
from uniavgen.training.dataloader import load_batches
from uniavgen.training.ema import EMA
from uniavgen.training.optimizer import AdamWConfig, OptimConfig, build_optimizer, select_trainable

JOINT_ONLY = "stage.tasks.ratios={reference_audio: 0, continuation: 0, dubbing: 0, animation: 0}"
GOLDEN = Path(__file__).parent / "golden_losses.json"


@pytest.mark.parametrize("name", [name for name in preset_names() if "/stage" in name])
def test_stage_presets_are_complete_and_survive_dump_and_parse(name):
    settings = load(TrainConfig, [name])
    assert parse(TrainConfig, dump(settings)) == settings


def test_training_losses_fall_and_match_the_golden_ones(folder, tmp_path):
    """`UNIAVGEN_REGENERATE=1 pytest tests/training` rewrites the file."""
    settings = config("train.steps=20", "train.batch_size=4", "optim.lr=0.005", "optim.decay_steps=0", JOINT_ONLY)
    one, totals = run(folder, tmp_path, settings), []
    one.train([lambda record, state: totals.append(record.values["total"])])
    if os.environ.get("UNIAVGEN_REGENERATE"):
        GOLDEN.write_text(json.dumps([round(total, 4) for total in totals]) + "\n")
    again = one.objective.losses(one.objective.batch(0), 0)["total"]
    assert float(again.detach()) < 0.9 * totals[0]
    assert totals == pytest.approx(json.loads(GOLDEN.read_text()), rel=0.02)


def test_ema_follows_its_formula():
    linear = torch.nn.Linear(3, 2)
    ema = EMA(linear, decay=0.6)
    expected = linear.weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            linear.weight.add_(0.1 * step)
        decay = min(0.6, step / (step + 9))
        expected = decay * expected + (1 - decay) * linear.weight.detach()
        ema.update(linear, step)
    assert torch.allclose(ema.averages["weight"], expected)
    current = linear.weight.detach().clone()
    with ema.applied(linear):
        assert torch.equal(linear.weight, ema.averages["weight"])
    assert torch.equal(linear.weight, current)


def test_training_changes_trainable_parameters_only(folder, tmp_path):
    patterns = 'stage.trainable=["audio_stem.*", "blocks.*.audio.*"]'
    settings = config(patterns, "stage.branches=audio", JOINT_ONLY, "train.steps=2")
    one = run(folder, tmp_path, settings)
    before = {name: value.clone() for name, value in one.state.model.state_dict().items()}
    one.train()
    changed = {n for n, value in one.state.model.state_dict().items() if not torch.equal(value, before[n])}
    audio = {n for n in before if n.startswith("audio_stem.") or (n.startswith("blocks.") and ".audio." in n)}
    assert changed == audio - {"audio_stem.padding"}


def test_trainable_pattern_without_parameters_is_refused():
    with pytest.raises(ConfigError, match="no parameter"):
        select_trainable(model(), ["audio.*"])


def test_weight_decay_spares_vectors():
    groups = build_optimizer(model(), AdamWConfig(lr=1e-3, weight_decay=0.01)).param_groups
    assert {p.ndim >= 2 for p in groups[0]["params"]} == {True}
    assert {p.ndim >= 2 for p in groups[1]["params"]} == {False}
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (0.01, 0.0)


def test_learning_rate_warms_up_stays_and_falls():
    schedule = OptimConfig(lr=1.0, warmup_steps=4, decay_steps=5).schedule(20)
    rates = [schedule.at(step) for step in range(20)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[14:] == pytest.approx([1.0, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_batches_do_not_depend_on_workers_and_processes(folder, tmp_path):
    one = run(folder, tmp_path, config("train.steps=4")).objective.dataset
    alone = list(load_batches(one, 1, 4))
    for workers in (1, 2):
        for expected, found in zip(alone, load_batches(one, 1, 4, workers), strict=True):
            assert expected.spec == found.spec
            assert torch.equal(expected.mel, found.mel)
            assert torch.equal(expected.text.speech, found.text.speech)
    ranks = [replace(one, context=ParallelContext(rank=rank, world_size=2)) for rank in range(2)]
    shares = [list(load_batches(rank, 1, 4)) for rank in ranks]
    for expected, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(expected.mel, torch.cat([part.mel for part in parts]))
        assert all(part.spec == expected.spec for part in parts)


# Said once by torch's mixed-precision norm on the CPU.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_bf16_keeps_weights_and_moments_in_float32(folder, tmp_path):
    settings = config("train.precision=bf16", "train.steps=1")
    one = run(folder, tmp_path, settings)
    records = []
    one.train([lambda record, state: records.append(record)])
    assert records[0].values["total"] > 0
    assert {p.dtype for p in one.state.model.parameters()} == {torch.float32}
    assert {v.dtype for held in one.state.optimizer.state.values() for v in held.values()} == {torch.float32}


def test_tensorboard_receives_curves_and_sampled_clips(folder, tmp_path):
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from uniavgen.training.callbacks import CurveCallback, SampleCallback, SampledClip, SampledClips
    from uniavgen.training.curves import open_curves
    from uniavgen.training.throughput import SpeedMeter

    def sample(averaged, step):
        assert not averaged.training
        clip = SampledClip(
            name="a",
            frames=np.zeros((9, 8, 8, 3), np.uint8),
            fps=Fraction(16),
            sample_rate_hz=24000,
            mel=np.ones((56, 7), np.float32),
            waveform=np.zeros(2400, np.float32),
        )
        return SampledClips(clips=(clip,))

    settings = config("train.steps=2")
    one = run(folder, tmp_path, settings)
    with open_curves(tmp_path / "curves") as writer:
        one.train(
            [
                CurveCallback(writer=writer, every=1, meter=SpeedMeter(torch.device("cpu"))),
                SampleCallback(writer=writer, sample=sample, every=2),
            ]
        )
    events = EventAccumulator(str(tmp_path / "curves")).Reload().Tags()
    assert {"loss/total", "run/lr", "run/grad_norm", "speed/clips_per_s"} <= set(events["scalars"])
    log = [json.loads(line) for line in (tmp_path / "curves" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2]
    assert all(line["speed/tokens_per_s"] > line["speed/clips_per_s"] > 0 for line in log)
    assert set(events["images"]) == {"a/frames", "a/mel"}
    assert events["audio"] == ["a/sound"]
    assert one.state.model.training


def test_audio_branch_alone_refuses_tasks_with_a_given_modality():
    with pytest.raises(ConfigError, match="animation"):
        config("stage.branches=audio")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.audio.mel_bins=2", "mel bins, the model expects 2"),
        ("model.video.latent_channels=3", "latent channels, the model expects 3"),
        ("model.video.patch=[1, 3, 2]", "latent rows beyond whole tokens"),
        ("model.video.patch=[1, 1, 1]", "face mask tokens a latent frame, the model expects 24"),
    ],
)
def test_features_of_another_size_than_the_model_expects_are_refused(folder, tmp_path, setting, words):
    with pytest.raises(DataError, match=words):
        run(folder, tmp_path, config(setting))
