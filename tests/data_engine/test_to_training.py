"""From raw video to a trained step: real clips are scored, packed, prepared by nano's codecs, and train nano."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from tests.data_engine.talking_films import CLIPS, write_talking

from uniavgen.apps.cli import main
from uniavgen.artifacts import checksum
from uniavgen.config import Config
from uniavgen.data.features import FeatureSet
from uniavgen.data.shards import ShardSet
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.data_engine.stages.loudness import LoudnessStage
from uniavgen.data_engine.stages.probe import ProbeStage
from uniavgen.data_engine.stages.shots import ShotsStage
from uniavgen.data_engine.stages.voice_activity import VoiceActivityStage
from uniavgen.workflows.data_engine import PackConfig, StageSelection, load_rules, pack, run_stages
from uniavgen.workflows.model_files import find_model

NANO = find_model("nano")
NUM_FRAMES = 33


@dataclass(frozen=True, kw_only=True)
class NoSettings(Config):
    """It has no settings."""


class SpeechAsWords(Stage):
    """A word for each tenth of a second with speech, in the place of a transcript, for which no network is at hand."""

    name = "transcript"
    requires = ("voice_activity",)
    settings_class = NoSettings

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        speech = inputs["voice_activity"].values["speech"]
        times = [time for start, end in speech for time in np.arange(start, end, 0.1).tolist()]
        words = [{"text": f"la{i}", "start_s": time, "end_s": time + 0.1} for i, time in enumerate(times)]
        return StageOutput(values={"words": words, "language": "en"})


class ShotsAsSegments(Stage):
    """A candidate for each shot, in the place of those in which a face speaks."""

    name = "segments"
    requires = ("shots", "transcript")
    settings_class = NoSettings

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        shots = inputs["shots"].values["shots"]
        scores = {"num_faces": 1, "face_share": 1.0, "mouth_movement": 0.02}
        return StageOutput(values={"segments": [{"start_s": start, "end_s": end} | scores for start, end in shots]})


STAGES = (ProbeStage, ShotsStage, LoudnessStage, VoiceActivityStage, SpeechAsWords, ShotsAsSegments)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Clips of two films, as `data run` and `data pack` make them."""
    folder = tmp_path_factory.mktemp("raw")
    write_talking(folder / "films" / "a.mp4", CLIPS[:2])
    write_talking(folder / "films" / "b.mp4", CLIPS[2:3])
    (folder / "films" / "a.json").write_text('{"licence": "CC-BY-4.0", "uploader": "Ann", "consent": "yes"}')
    run_stages([folder / "films"], folder / "work", StageSelection(stages=STAGES))
    config = PackConfig(work=folder / "work", out=folder / "shards", num_frames=NUM_FRAMES)
    _, summary = pack(config, load_rules())
    assert summary.num_clips >= 3
    return folder / "shards"


def _prepare(shards, out):
    return main(
        ["prepare", "--data", str(shards), "--parts", str(NANO), "--out", str(out), "--num-frames", str(NUM_FRAMES)]
    )


def test_clips_carry_rights_and_the_checksum_of_their_source(shards):
    packed = ShardSet(shards)
    facts = [json.loads(packed.read(i, "json")) for i in range(len(packed))]
    for row in facts:
        film = shards.parent / "films" / row["source"]["file"]
        assert row["source"]["sha256"] == checksum(film)
        given = {"licence": "CC-BY-4.0", "uploader": "Ann", "consent": "yes"} if film.name == "a.mp4" else {}
        assert row["rights"] | given == row["rights"]
        assert row["rights"]["subject_is_minor"] == "unknown"
    assert {row["source"]["file"] for row in facts} == {"a.mp4", "b.mp4"}


def test_packed_clips_are_prepared_and_train_nano(shards, tmp_path):
    features, run = tmp_path / "features", tmp_path / "run"
    assert _prepare(shards, features) == 0
    assert len(FeatureSet(features)) == len(ShardSet(shards))
    settings = [
        "train.steps=2",
        "train.batch_size=1",
        "train.compile=false",
        "train.precision=fp32",
        "train.log_every=1",
        "train.sample_every=0",
        f"data.num_frames={NUM_FRAMES}",
        "data.memory_gb=0",
        "stage.tasks.reference_s=[0.2,0.4]",
    ]
    options = [part for setting in settings for part in ("-s", setting)]
    folders = ["--data", str(features), "--init", "nano", "--out", str(run)]
    assert main(["train", "-c", "nano/stage2", *options, *folders, "--device", "cpu"]) == 0
    assert (run / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
