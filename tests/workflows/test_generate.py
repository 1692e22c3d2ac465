"""Generating without a command line: results come as values, nothing is printed, jobs are plain values."""

import json
import pickle
from pathlib import Path

import pytest

import uniavgen
from uniavgen import LoadConfig
from uniavgen.media.mux import read_metadata
from uniavgen.media.probe import probe
from uniavgen.workflows.clip_jobs import AnimateJob, DubJob, GenerateJob
from uniavgen.workflows.continue_clip import ContinueJob

EXAMPLE = Path(__file__).parents[2] / "examples" / "person.png"


def test_generate_returns_values_and_prints_nothing(tmp_path, capsys):
    job = GenerateJob(image=EXAMPLE, speech="Hi.", num_frames=5, sampling={"steps": 1, "shift": 3.0}, seed=2)
    phases = []
    file = uniavgen.generate(
        job, tmp_path / "a.mp4", LoadConfig(device="cpu"), preview=True, on_progress=lambda p: phases.append(p.phase)
    )
    assert capsys.readouterr() == ("", "")
    assert (file.path, file.preview) == (tmp_path / "a.mp4", tmp_path / "a.png")
    assert list(dict.fromkeys(map(str, phases))) == [
        "encode text", "encode picture", "sample", "decode video", "decode audio",
    ]  # fmt: skip
    assert file.clip.frames.shape == (5, 128, 128, 3)
    assert (file.settings["seed"], file.settings["steps"], file.settings["shift"]) == (2, 1, 3.0)
    assert read_metadata(file.path) == json.loads(json.dumps(file.settings))
    assert probe(file.path).video.width_px == 128


@pytest.mark.parametrize(
    "job",
    [
        GenerateJob(image=Path("a.png"), speech="Hi.", voice=Path("b.wav"), voice_text="Ha."),
        DubJob(video=Path("a.mp4"), speech="Hi."),
        AnimateJob(image=Path("a.png"), audio=Path("b.wav")),
        ContinueJob(clip=Path("a.mp4"), speech="Hi.", sampling={"steps": 3}),
    ],
    ids=lambda job: type(job).__name__,
)
def test_job_is_a_plain_value_that_names_its_inputs(job):
    assert pickle.loads(pickle.dumps(job)) == job
    assert all(isinstance(path, Path) for path in job.inputs.values())
    assert len(job.inputs) == {GenerateJob: 2, DubJob: 1, AnimateJob: 2, ContinueJob: 1}[type(job)]
