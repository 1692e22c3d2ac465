"""`uniavgen evaluate` and `uniavgen train-mouth-reader` on rendered shards, from the shell's side."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uniavgen.apps.cli import main
from uniavgen.apps.cli.synth import pack
from uniavgen.data.shards import ShardWriter
from uniavgen.synth.clip import RenderedClip, Truth
from uniavgen.timebase import Timebase

CLIP = Timebase().clip(81)
SIDE = 32


def _rendered(key: str, seed: int) -> RenderedClip:
    rng = np.random.default_rng(seed)
    opening = rng.uniform(0, 0.2, CLIP.num_frames).astype(np.float32)
    frames = np.full((CLIP.num_frames, SIDE, SIDE, 3), 60, np.uint8)
    for frame, value in zip(frames, opening, strict=True):
        frame[16 : 17 + int(value * 50), 8:24] = 220
    mask = np.zeros(frames.shape[:3], bool)
    mask[:, :28, :28] = True
    truth = Truth(
        text="open and close",
        caption="a bar speaks",
        phones=(),
        mouth_opening=opening,
        arkit=np.zeros((CLIP.num_frames, 52), np.float32),
        head_pose=np.zeros((CLIP.num_frames, 3), np.float32),
        identity=key,
        speaker=key,
        gender="bar",
        age=1.0,
        voice="noise",
        mood="calm",
        strength=0.0,
        place="nowhere",
        framing="close",
        utterance=key,
    )
    return RenderedClip(
        key=key,
        fps=16.0,
        frames=frames,
        face_masks=mask,
        waveform=rng.uniform(-0.3, 0.3, CLIP.num_samples).astype(np.float32),
        sample_rate_hz=CLIP.base.sample_rate_hz,
        truth=truth,
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    with ShardWriter(folder) as writer:
        for number in range(2):
            writer.write(f"{number:04d}", pack(_rendered(f"{number:04d}", number)))
    return folder


@pytest.fixture(scope="module")
def reader(shards, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("reader") / "reader.safetensors"
    common = f"--data {shards} --held-out {shards} --out {file} --steps 2"
    assert main(["train-mouth-reader", *common.split()]) == 0
    return file


def test_report_is_written_resumed_and_the_same_twice(model, shards, reader, tmp_path, capsys):
    sampling = "--steps 1 --guidance none --num-frames 17 --device cpu"
    command = f"evaluate --data {shards} --model {model} --clips 2 --mouth-reader {reader} {sampling}"
    assert main([*command.split(), "--out", str(tmp_path / "a")]) == 0
    data = json.loads((tmp_path / "a" / "report.json").read_text())
    name = model.name
    assert {*data["systems"]} == {"truth", "truth-shuffled", f"{name}-codec", name, f"{name}-shuffled-audio"}
    assert data["systems"]["truth"]["metrics"]["face_mask_iou"]["mean"] == 1
    assert {*data["systems"][name]["metrics"]["mouth_correlation"]} == {"mean", "low", "high", "n"}
    assert "--whisper" in data["systems"][name]["clips"][0]["not_measured"]["wer"]
    assert "| system |" in capsys.readouterr().out
    with Image.open(tmp_path / "a" / "sheet.png") as sheet:
        assert sheet.width > sheet.height

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "clips").rglob("*.npz")}
    report = (tmp_path / "a" / "report.json").read_bytes()
    assert main([*command.split(), "--out", str(tmp_path / "a")]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "a" / "report.json").read_bytes() == report

    assert main([*command.split(), "--out", str(tmp_path / "a"), "--seed", "7"]) == 2
    assert "another seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--clips 3", "holds 2 clips, 3 are asked for"),
        ("--data .", "no shards"),
        ("--mouth-reader none.safetensors", "no mouth reader"),
        ("--model nowhere", "there is no model"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(change, words, model, shards, reader, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = f"evaluate --data {shards} --model {model} --clips 2 --mouth-reader {reader} --out report {change}"
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "report" / "report.json").exists()
