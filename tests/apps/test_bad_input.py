"""Bad inputs as a table: one sentence on stderr, exit code 2, no file left."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from uniavgen.apps.cli import main
from uniavgen.errors import CheckpointError
from uniavgen.workflows.load import load_pipeline
from uniavgen.workflows.model_files import find_model

GENERATE = "generate --image face.png --speech Hi"
DUB = "dub film.mp4 --speech Hi"
ANIMATE = "animate --image face.png --audio drive.wav"
CONTINUE = "continue film.mp4 --speech Hi --keep 0.2 --num-frames 9"

# The command, and words of the sentence it must answer with. Names are files of `inputs` or `bad`.
TABLE = [
    # Missing, empty, truncated, huge, wrong-type media.
    ("generate --image none.png --speech Hi", "none.png does not exist"),
    ("generate --image folder --speech Hi", "is a folder"),
    ("generate --image empty.png --speech Hi", "is empty"),
    ("generate --image cut.png --speech Hi", "damaged or incomplete"),
    ("generate --image text.png --speech Hi", "not a picture"),
    ("generate --image drive.wav --speech Hi", "not a picture"),
    ("generate --image thin.png --speech Hi", "at least 16 px"),
    ("generate --image huge.png --speech Hi", "at most 8192 px"),
    ("generate --image strip.png --speech Hi", "less than 33%"),
    ("dub none.mp4 --speech Hi", "none.mp4 does not exist"),
    ("dub empty.mp4 --speech Hi", "is empty"),
    ("dub cut.mp4 --speech Hi", "damaged|can be decoded"),
    ("dub text.mp4 --speech Hi", "no sound or video"),
    ("dub text.txt --speech Hi", "neither sound nor video|no sound or video"),
    ("dub face.png --speech Hi", "neither sound nor video"),
    ("dub drive.wav --speech Hi", "no picture track"),
    ("animate --image face.png --audio none.wav", "none.wav does not exist"),
    ("animate --image face.png --audio empty.wav", "is empty"),
    ("animate --image face.png --audio cut.wav", "damaged|no sound"),
    ("animate --image face.png --audio text.wav", "no sound or video"),
    ("animate --image face.png --audio mute.mp4", "no sound track"),
    ("animate --image face.png --audio face.png", "neither sound nor video"),
    ("continue mute.mp4 --speech Hi", "no sound track"),
    ("continue none.mp4 --speech Hi", "none.mp4 does not exist"),
    ("info none.mp4", "none.mp4 does not exist"),
    ("info text.mp4", "no sound or video"),
    # Too long or too short.
    ("dub long.mp4 --speech Hi", "lasts 6.25 s"),
    ("animate --image face.png --audio long.wav", "lasts 7.00 s"),
    ("animate --image face.png --audio short.wav", "needs 0.25 s or more"),
    (f"{GENERATE} --voice short.wav --voice-text Ha", "needs 0.5 s or more"),
    (f"{GENERATE} --voice long.wav --voice-text Ha", "lasts 7.00 s"),
    (f"{GENERATE} --voice silent.wav --voice-text Ha", "silent"),
    ("dub brief.mp4 --speech Hi", "needs 0.31 s or more"),
    # Texts.
    ("generate --image face.png --speech \u4f60\u597d", "cannot say"),
    (f"{GENERATE} --voice voice.wav --voice-text \u00a7", "cannot say"),
    ("generate --image face.png --speech _", "speech is empty"),
    ("dub film.mp4 --speech _", "speech is empty"),
    (f"{GENERATE}{'i' * 5000}", "shorten it"),
    (f"{GENERATE}{'i' * 188} --num-frames 81", r"takes about 11\.9 s, the clip lasts 5\.06 s; .* --num-frames 193"),
    (f"dub film.mp4 --speech {'i' * 60}", "takes about .* use a longer video"),
    (f"continue film.mp4 --speech {'i' * 190}", r"takes about 11\.9 s, the clip lasts 5\.06 s; .* --num-frames 193"),
    (f"animate --image face.png --audio voice.wav --speech {'i' * 60}", "takes about .* use a longer recording"),
    (f"{GENERATE} --caption {'x' * 5000}", "shorten it"),
    (f"{GENERATE} --voice voice.wav", "no transcript"),
    (f"{GENERATE} --voice-text Ha", "no voice"),
    # Impossible options.
    ("generate --speech Hi", "--image"),
    ("generate --image face.png", "--speech"),
    (f"{GENERATE} --steps 0", "steps must be"),
    (f"{GENERATE} --steps many", "--steps"),
    (f"{GENERATE} --seed -1", "seed must be"),
    (f"{GENERATE} --guidance strong", "no guidance 'strong'"),
    (f"{GENERATE} --video-guidance -3", "video_guidance must be"),
    (f"{GENERATE} --audio-guidance nan", "audio_guidance: should be a finite number"),
    (f"{GENERATE} --num-frames 10", "use 9 or 13"),
    (f"{GENERATE} --num-frames -3", "num_frames|frames"),
    (f"{GENERATE} --num-frames 100001", "num_frames must be"),
    (f"{GENERATE} --device gpu", "no device 'gpu'"),
    (f"{GENERATE} --device cuda:99", "no device 'cuda:99'"),
    (f"{GENERATE} --size big", "--size is WIDTHxHEIGHT"),
    (f"{GENERATE} --size 64x64", "draws 32x32 px and nothing else"),
    (f"{GENERATE} --attention fast", "no attention 'fast'"),
    (f"{GENERATE} --attention sage --device cpu", "runs on CUDA GPUs only"),
    (f"{GENERATE} --cache 2", "between 0 and 1"),
    (f"{GENERATE} --cache 0.1 --compile", "choose one of the two"),
    (f"{GENERATE} --compile --mode streamed", "leave compiling out, or choose a mode that streams nothing"),
    (f"{ANIMATE} --cache 0.1", "runs one branch only once"),
    (f"{GENERATE} --loud", "--loud"),
    (f"{CONTINUE} --keep 9", "--keep"),
    (f"{CONTINUE} --keep 0", "--keep"),
    ("sing --loud", "sing"),
    # Outputs.
    (f"{GENERATE} --out a.gif", "must end in"),
    (f"{GENERATE} --out file/a.mp4", "is not a folder"),
    (f"{GENERATE} --out folder.mp4", "no regular file"),
    (f"{DUB} --out film.mp4", "also an input"),
    (f"{GENERATE} --out /dev/full", "must end in"),
    (f"{GENERATE} --out /proc/a.mp4", "cannot be written"),
    # Models.
    (f"{GENERATE} --model none", "no model 'none'"),
    (f"{GENERATE} --model folder", "no model_index.json"),
    (f"{GENERATE} --model face.png", "is a file and no model folder"),
    (f"{GENERATE} --model foreign", "StableDiffusionPipeline"),
    (f"{GENERATE} --model broken_index", "model_index.json is not JSON"),
    (f"{GENERATE} --model cut_weights", "damaged"),
    (f"{GENERATE} --model other_weights", "do not fit their config.json"),
    (f"{GENERATE} --model no_weights", "could not be loaded"),
    (f"{GENERATE} --model no_part", "could not be loaded|copy or download"),
    (f"{GENERATE} --model broken_config", "config.json has num_layers many, expected 1 to"),
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory, inputs, model) -> dict[str, Path]:
    """Everything that the table names."""
    folder = tmp_path_factory.mktemp("bad")
    paths = {**inputs, "file/a.mp4": inputs["face.png"] / "a.mp4"}

    def add(name: str) -> Path:
        paths[name] = folder / name
        return paths[name]

    for name in ("none.png", "none.mp4", "none.wav", "a.gif"):
        add(name)
    for name in ("folder", "folder.mp4"):
        add(name).mkdir()
    for name in ("empty.png", "empty.mp4", "empty.wav"):
        add(name).touch()
    for name in ("text.png", "text.mp4", "text.wav", "text.txt"):
        add(name).write_text("This is a letter.\n" * 100)
    # Films and recordings are cut in what describes them; what is cut later is read as far as it goes.
    for name, source, size in (
        ("cut.png", "face.png", 0.5),
        ("cut.mp4", "film.mp4", 200),
        ("cut.wav", "drive.wav", 40),
    ):
        data = inputs[source].read_bytes()
        add(name).write_bytes(data[: int(size if size > 1 else size * len(data))])
    for name, size in (("thin.png", (200, 10)), ("huge.png", (9000, 20)), ("strip.png", (400, 20))):
        Image.new("RGB", size).save(add(name))
    from uniavgen.media.audio import write_wav
    from uniavgen.media.mux import write_clip

    from .builders import FPS, RATE_HZ, film, sound

    write_wav(add("silent.wav"), np.zeros(RATE_HZ // 2 + 600, np.float32), RATE_HZ)
    write_clip(add("brief.mp4"), film(3), FPS, sound(3 / 16), RATE_HZ, {})
    for name in ("foreign", "broken_index", "cut_weights", "other_weights", "no_weights", "no_part", "broken_config"):
        shutil.copytree(model, add(name))
    index = paths["foreign"] / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "StableDiffusionPipeline"}))
    (paths["broken_index"] / "model_index.json").write_text("{")
    weights = "transformer/diffusion_pytorch_model.safetensors"
    data = (model / weights).read_bytes()
    (paths["cut_weights"] / weights).write_bytes(data[: len(data) // 2])
    state = {f"other.{name}": tensor for name, tensor in load_file(model / weights).items()}
    save_file(state, paths["other_weights"] / weights, metadata={"format": "pt"})
    (paths["no_weights"] / weights).unlink()
    shutil.rmtree(paths["no_part"] / "vae")
    (paths["broken_config"] / "transformer" / "config.json").write_text('{"num_layers": "many"}')
    return paths


@pytest.mark.parametrize(("line", "words"), TABLE, ids=[line[:70] for line, _ in TABLE])
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, tmp_path, monkeypatch, model, bad, line, words):
    monkeypatch.chdir(tmp_path)
    argv = [" " if word == "_" else str(bad.get(word, word)) for word in line.split(" ")]
    if argv[0] not in ("info", "sing"):
        argv += [] if "--model" in argv else ["--model", str(model)]
        argv += [] if "--out" in argv else ["--out", str(tmp_path / "out" / "a.mp4")]
        argv += [] if "--num-frames" in argv or argv[0] != "generate" else ["--num-frames", "9"]
    code = main(argv)
    captured = capsys.readouterr()
    assert code == 2
    sentences = [text for text in captured.err.splitlines() if text.startswith("uniavgen: ")]
    assert len(sentences) == 1
    assert "Traceback" not in captured.err
    assert re.search(words, sentences[0]), sentences[0]
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--image", "a" * 5000 + "/b.png"], "has a name of 5000 bytes"), (["--attention", "a" * 5000], "aaa ... aaa")],
)
def test_sentence_about_a_huge_value_shows_a_part_of_it(capsys, options, words):
    assert main(["generate", "--image", "a.png", *options, "--speech", "Hi", "--out", "a.mp4"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("uniavgen: ")
    assert words in sentence
    assert len(sentence) < 2100


@pytest.mark.parametrize("name", ["none", "foreign", "folder"])
def test_bad_model_is_refused_by_its_files_alone(bad, name):
    with pytest.raises(CheckpointError):
        find_model(str(bad.get(name, name)))


def test_loading_a_good_model_prints_nothing(capsys, model):
    load_pipeline(str(model), device="cpu")
    assert capsys.readouterr().err == ""


def test_full_disk_leaves_no_file(capsys, tmp_path, model, inputs):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        code = main(_generate(tmp_path, model, inputs))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert "could not be written" in capsys.readouterr().err
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ctrl_c", "request_to_stop"),
    [
        ("default_int_handler", signal.SIGINT),
        # A shell lets what runs behind it ignore Ctrl-C.
        ("SIG_IGN", signal.SIGTERM),
    ],
)
def test_interrupt_leaves_no_file(ctrl_c, request_to_stop, tmp_path, model, inputs):
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import signal; signal.signal(signal.SIGINT, signal.{ctrl_c}); "
            "import sys; from uniavgen.apps.cli import main; sys.exit(main())",
            *_generate(tmp_path, model, inputs, "--steps", "1000"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        shown = ""
        while "sample" not in shown:
            letter = process.stderr.read(1)
            assert letter, shown
            shown += letter
        process.send_signal(request_to_stop)
        _, printed = process.communicate()
    assert process.returncode == 130
    assert "stopped on request" in printed
    assert "Traceback" not in printed
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def _generate(folder: Path, model: Path, inputs: dict[str, Path], *more: str) -> list[str]:
    words = ["generate", "--image", inputs["face.png"], "--speech", "Hi", "--model", model, "--num-frames", "9"]
    return [str(word) for word in [*words, "--out", folder / "out" / "a.mp4", *more]]


@pytest.mark.parametrize(
    "command",
    [
        "info PATH",
        "prepare --data PATH --out out",
        "prepare --data x --out PATH",
        "prepare --data x --data PATH --out out",
        "prompts grid --data PATH --out out",
        "evaluate --prompts PATH --out out",
        "evaluate PATH --prompts x --out out",
        "synth --clips 1 --speech PATH --out out",
        "train -c nano/stage3 --data PATH --out out",
    ],
)
@pytest.mark.parametrize("path", ["n" * 300, "x/" * 2500], ids=["name", "path"])
def test_path_that_no_file_can_have_is_refused(command, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command.replace("PATH", path).split()) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert ("can be stored" if "/" not in path else "can be opened") in error or "there is no folder" in error
    assert list(tmp_path.iterdir()) == []


def test_root_of_the_file_system_is_no_output(tmp_path, capsys):
    (tmp_path / "prompts.jsonl").write_text("")
    assert main(["evaluate", str(tmp_path), "--prompts", str(tmp_path / "prompts.jsonl"), "--out", "/"]) == 2
    assert "the output / is the root of the file system" in capsys.readouterr().err
