"""Clips that are sampled during training: every task, the same requests at every step, measured and shown."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from uniavgen.errors import ConfigError
from uniavgen.evaluation.prompts import Prompt, write_prompts
from uniavgen.media.audio import write_wav
from uniavgen.media.mux import write_clip
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.training.callbacks import SampleCallback
from uniavgen.training.curves import open_curves
from uniavgen.training.state import TrainState
from uniavgen.workflows.model_files import find_model
from uniavgen.workflows.training_samples import SampleSettings, TrainingSampler

EXAMPLE = Path(__file__).parents[2] / "examples" / "person.png"
NANO = find_model("nano")
NUM_FRAMES = 9


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    """One prompt with the inputs of every task, and one with those of a joint clip."""
    folder = tmp_path_factory.mktemp("prompts")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (NUM_FRAMES, 64, 64, 3), dtype=np.uint8)
    waveform = rng.normal(0, 0.1, 24000).astype(np.float32)
    write_clip(folder / "truth.mp4", frames, Fraction(16), waveform, 24000, {})
    write_wav(folder / "truth.wav", waveform, 24000)
    files = {"image": EXAMPLE, "video": folder / "truth.mp4", "audio": folder / "truth.wav"}
    whole = Prompt(id="whole", speech="Oh.", voice=folder / "truth.wav", voice_text="Oh so high", **files)
    write_prompts(folder / "prompts.jsonl", [whole, Prompt(id="joint", speech="Oh.", image=EXAMPLE)])
    return folder / "prompts.jsonl"


@pytest.fixture(scope="module")
def model() -> UniAVGenTransformer:
    return UniAVGenTransformer.from_pretrained(NANO / "transformer").eval()


def settings(prompts: Path, **changes) -> SampleSettings:
    return SampleSettings(prompts=prompts, codecs=NANO, num_frames=NUM_FRAMES, latent_grid=(4, 4), **changes)


@torch.no_grad()
def test_every_task_is_sampled_measured_and_the_same_at_every_step(prompts, model, tmp_path):
    first = TrainingSampler(settings(prompts), tmp_path)(model, 0)
    second = TrainingSampler(settings(prompts, metrics=["motion"]), tmp_path)(model, 100)
    others = [f"{task}/whole" for task in Task if task is not Task.JOINT]
    assert [clip.name for clip in first.clips] == ["joint/whole", "joint/joint", *others]
    for before, after in zip(first.clips, second.clips, strict=True):
        np.testing.assert_array_equal(before.frames, after.frames)
        np.testing.assert_array_equal(before.waveform, after.waveform)
    assert first.scores == {}
    assert {*second.scores} == {f"{task}/motion" for task in Task}
    report = json.loads((tmp_path / "samples" / "step-00000100" / "report.json").read_text())
    assert report["systems"]["dubbing"]["counts"]["measured"] == 1
    assert (tmp_path / "samples" / "step-00000100" / "animation" / "whole.mp4").is_file()


def test_sampled_clips_stand_in_the_curves_and_leave_training_as_it_was(prompts, model, tmp_path):
    sampler = TrainingSampler(settings(prompts, tasks=[Task.JOINT]), tmp_path)
    model.train()
    state = TrainState(model=model, optimizer=torch.optim.SGD(model.parameters()), step=3)
    random_state = torch.get_rng_state()
    with open_curves(tmp_path / "curves") as writer:
        SampleCallback(writer=writer, sample=sampler, every=2).run_now(state)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    events = EventAccumulator(str(tmp_path / "curves")).Reload()
    (shown,) = events.Images("joint/whole/frames")
    assert (shown.step, shown.encoded_image_string[:3]) == (3, b"GIF")
    assert events.Audio("joint/joint/sound")[0].sample_rate == 24000


def test_sampler_refuses_what_it_cannot_sample_or_measure_before_training(prompts, tmp_path):
    write_prompts(tmp_path / "empty.jsonl", [Prompt(id="a", speech="Oh.")])
    with pytest.raises(ConfigError, match="has what a task needs"):
        TrainingSampler(settings(tmp_path / "empty.jsonl"), tmp_path)
    with pytest.raises(ConfigError, match="there is no metric 'beauty'"):
        TrainingSampler(settings(prompts, metrics=["beauty"]), tmp_path)
    with pytest.raises(ConfigError, match="none of these metrics can be computed here"):
        TrainingSampler(settings(prompts, metrics=["lip_sync"]), tmp_path)
