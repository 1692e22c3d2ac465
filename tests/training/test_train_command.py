"""`uniavgen prepare` and `uniavgen train` as a user runs them, on speech and the smallest model that hears 80 bins."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from uniavgen.apps.cli import main
from uniavgen.artifacts import checksum
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.config import dump, load
from uniavgen.data.features import FeatureSet
from uniavgen.data.open_index import begin_features
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.checkpoint_files import checkpoints
from uniavgen.training.config import TrainConfig


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """Four utterances of two voices, and one that is longer than a clip."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "opus").mkdir()
    entries = []
    for i, seconds in enumerate((1.0, 2.0, 3.0, 1.5, 6.0)):
        phones = [["s", 0.1, 0.4], ["o", 0.4, 0.5], [" ", 0.5, 0.6], ["h", 0.6, seconds - 0.2]]
        entries.append({"id": f"u{i}", "text": "so high", "voice": f"v{i % 2}", "phones": phones})
        sound = np.random.default_rng(i).normal(0, 3000, int(seconds * 24000)).astype("<i2")
        # The container is recognised by its content, not by its name.
        with (folder / "opus" / f"u{i}.opus").open("wb") as file, wave.open(file) as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(24000)
            out.writeframes(sound.tobytes())
    (folder / "index.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
    return folder


@pytest.fixture(scope="module")
def features(speech, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "features"
    assert main(["prepare", "--data", str(speech), "--out", str(out), "--num-frames", "33"]) == 0
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """The tiny model with 80 mel bins and all of nano's symbols."""
    path = tmp_path_factory.mktemp("model") / "model.yaml"
    sizes = load(TransformerConfig, ["tiny/model"], ["audio.mel_bins=80", "audio.speech.num_symbols=95"])
    path.write_text(yaml.safe_dump(dump(sizes)))
    return str(path)


def command(features, model, out, *more: str) -> list[str]:
    small = [
        f"model={model}",
        "train.compile=false",
        "train.precision=fp32",
        "train.batch_size=2",
        "data.num_frames=17",
        "stage.tasks.reference_s=[0.2,0.4]",
    ]
    settings = [part for setting in small for part in ("-s", setting)]
    return [
        "train",
        "-c",
        "nano/stage1",
        *settings,
        "--data",
        str(features),
        "--out",
        str(out),
        "--device",
        "cpu",
        *more,
    ]


def test_prepared_speech_has_words_and_leaves_out_what_is_too_long(features):
    stored = FeatureSet(str(features))
    assert tuple(stored.index.keys) == ("u0", "u1", "u3")
    assert [stored.index.speakers[n] for n in stored.index.speaker.tolist()] == ["v0", "v1", "v1"]
    clip = stored[1]
    assert [(word.text, word.start_s) for word in clip.words] == [("so", 0.1), ("high", 0.6)]
    assert clip.mel.shape == (206, 80)
    assert clip.latents is None


def test_prepare_resumes_and_refuses_other_settings(speech, features, capsys):
    again = ["prepare", "--data", str(speech), "--out", str(features)]
    assert main([*again, "--num-frames", "33"]) == 0
    assert len(FeatureSet(str(features))) == 3
    assert main([*again, "--num-frames", "17"]) == 2
    assert "made with another num_frames" in capsys.readouterr().err


def test_train_writes_a_saved_transformer(features, model, tmp_path):
    assert main(command(features, model, tmp_path, "-s", "train.steps=2")) == 0
    saved = UniAVGenTransformer.from_pretrained(tmp_path / "transformer")
    assert saved.settings.audio.mel_bins == 80
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000002"]


def test_held_out_losses_stand_in_the_curves_from_step_0_on(features, model, tmp_path):
    settings = ["-s", "train.steps=2", "-s", "validation.every=2", "-s", "validation.num_clips=2"]
    assert main(command(features, model, tmp_path, *settings, "--validation", str(features))) == 0
    curves = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert [event.step for event in curves.Scalars("held_out_joint/audio")] == [0, 2]
    assert "held_out_reference_audio/audio/0.75-1.00" in curves.Tags()["scalars"]


def test_ctrl_c_saves_and_resume_goes_on(features, model, tmp_path, capsys):
    def interrupt():
        while not checkpoints(tmp_path / "checkpoints"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    long = command(features, model, tmp_path, "-s", "train.steps=100000", "-s", "train.checkpoint_every=3")
    watcher = threading.Thread(target=interrupt)
    watcher.start()
    assert main(long) == 130
    watcher.join()
    stopped = int(checkpoints(tmp_path / "checkpoints")[-1].name.removeprefix("step-"))
    assert stopped >= 3
    assert not list(tmp_path.rglob("*.partial"))
    assert main(command(features, model, tmp_path, "-s", f"train.steps={stopped + 2}")) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(command(features, model, tmp_path, "-s", f"train.steps={stopped + 2}", "--resume")) == 0
    assert checkpoints(tmp_path / "checkpoints")[-1].name == f"step-{stopped + 2:08d}"


def test_one_command_begins_a_run_and_goes_on_with_it(features, model, tmp_path, capsys):
    assert main(command(features, model, tmp_path / "first", "-s", "train.steps=1")) == 0
    begin = ["--resume", "--init", str(tmp_path / "first")]
    assert main(command(features, model, tmp_path / "run", "-s", "train.steps=1", *begin)) == 0
    # The first weights are not needed again, and may be gone.
    shutil.rmtree(tmp_path / "first")
    assert main(command(features, model, tmp_path / "run", "-s", "train.steps=2", *begin)) == 0
    assert [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000001", "step-00000002"]
    other_seed = ["-s", "train.steps=3", "-s", "train.seed=1", "--resume"]
    assert main(command(features, model, tmp_path / "run", *other_seed)) == 2
    assert "with train.seed 0, now it is 1, which would repeat or skip samples" in capsys.readouterr().err
    assert main(command(features, model, tmp_path / "run", *other_seed, "--force")) == 0


def test_resumed_run_finds_its_data_by_itself(features, model, tmp_path, capsys):
    words = command(features, model, tmp_path, "-s", "train.steps=1")
    assert main(words) == 0
    place = words.index("--data")
    without_data = [*words[:place], *words[place + 2 :], "-s", "train.steps=2", "--resume"]
    assert main(without_data) == 0
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-00000002"
    elsewhere = [str(tmp_path / "empty") if word == str(tmp_path) else word for word in without_data]
    assert main(elsewhere) == 2
    assert "holds no checkpoint that names its data; add --data" in capsys.readouterr().err


def test_resumed_run_keeps_its_speech_symbols_and_refuses_others(features, model, tmp_path, capsys):
    symbols = [" ", *SpeechSymbols.of().symbols()[:0:-1]]
    given, other, run = tmp_path / "symbols.txt", tmp_path / "others.txt", tmp_path / "run"
    given.write_text("\n".join(symbols))
    other.write_text("\n".join([*symbols[:10], symbols[11], symbols[10], *symbols[12:]]))
    assert main(command(features, model, run, "-s", "train.steps=1", "--vocab", str(given))) == 0
    shutil.copytree(run, tmp_path / "copy")
    resumed = ["-s", "train.steps=2", "--resume"]
    for more in ([], ["--force"]):
        assert main(command(features, model, run, *resumed, "--vocab", str(other), *more)) == 2
        sentence = f"the speech symbol {symbols[11]!r} in line 11, the run was trained with {symbols[10]!r}"
        assert sentence in capsys.readouterr().err
    assert main(command(features, model, tmp_path / "copy", *resumed, "--vocab", str(given))) == 0
    given.unlink()
    assert main(command(features, model, run, *resumed)) == 0
    assert checksum(run / "transformer") == checksum(tmp_path / "copy" / "transformer")


def test_training_is_refused_while_another_process_writes_the_same_folder(features, model, tmp_path, capsys):
    hold = "import sys; from pathlib import Path; from uniavgen.artifacts import exclusive_output\n"
    hold += "with exclusive_output(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "held\n"
        assert main(command(features, model, tmp_path / "out")) == 2
        assert "another process is writing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_curves_that_cannot_be_written_are_one_sentence(features, model, tmp_path, capsys):
    (tmp_path / "curves").write_text("")
    assert main(command(features, model, tmp_path, "-s", "train.steps=1")) == 2
    assert "could not be written" in capsys.readouterr().err.splitlines()[-1]


def test_checkpoints_that_are_no_folder_are_refused_before_training(features, model, tmp_path, capsys):
    (tmp_path / "checkpoints").write_text("")
    assert main(command(features, model, tmp_path, "-s", "train.steps=1")) == 2
    assert "is no folder, expected the checkpoints" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_print_config_prints_settings_that_parse(capsys):
    assert main(["train", "-c", "nano/stage2", "-s", "train.steps=7", "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == dump(load(TrainConfig, ["nano/stage2"], ["train.steps=7"]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["-s", "train.setps=3"], "train.setps"),
        (["-s", "train.steps=0"], "train.steps: should be greater"),
        (["-s", "data.num_frames=18"], "1 + 4n"),
        (["-s", "data.weights=[1,2]"], "data.weights"),
        (["-s", "stage.branches=both"], "3 without video"),
        (["--init", "nowhere"], "no weights"),
        (["--init", "n" * 5000], "a name of 5000 bytes"),
        (["--resume", "--init", "nowhere"], "no weights"),
        (["--watch", "nowhere"], "both"),
        (["--validation", "nowhere"], "no shards"),
        (["--device", "tpu"], "device"),
        (["-s", "model=base/model"], "the model has 2545 speech symbols, printable ASCII has 95; give"),
        (["--vocab", "nowhere.txt"], "nowhere.txt cannot be read"),
    ],
)
def test_bad_settings_are_one_sentence(features, model, tmp_path, capsys, change, sentence):
    import re

    assert main(command(features, model, tmp_path / "out", *change)) == 2
    error = capsys.readouterr().err
    assert re.search(sentence.replace("+", r"\+"), error)
    assert len(error.strip().splitlines()) == 1


def test_train_reads_features_of_a_store(features, model, tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    for file in features.iterdir():
        store.pipe(f"/{tmp_path.name}/{file.name}", file.read_bytes())
    weights = []
    for name, data, workers in (("local", features, 0), ("store", f"memory://{tmp_path.name}", 1)):
        more = ["-s", "train.steps=2", "-s", f"data.cache_dir={tmp_path / 'cache'}", "-s", f"data.workers={workers}"]
        assert main(command(data, model, tmp_path / name, *more)) == 0
        weights.append((tmp_path / name / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 1 + len(FeatureSet(features))


def test_data_that_is_missing_empty_or_half_prepared_is_told_before_weights_are_read(features, model, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    shutil.copytree(features, half)
    begin_features(half)
    for data, words in (
        (tmp_path / "missing", "no shards (*.tar) in"),
        (tmp_path / "empty", "no shards (*.tar) in"),
        ("memory://nothing-here", "no shards (*.tar) in memory://nothing-here"),
        (half, "are half prepared; run `uniavgen prepare` with the same options again"),
    ):
        assert main(command(data, model, tmp_path / "run", "--init", str(tmp_path / "no-weights"))) == 2
        message = capsys.readouterr().err.strip()
        assert words in message
        assert len(message.splitlines()) == 1
    assert not (tmp_path / "run").exists()
