"""The five commands on a pipeline of random weights: lengths, rates, kept tracks, settings."""

import json
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from uniavgen.apps.cli import main
from uniavgen.media.mux import read_metadata
from uniavgen.media.probe import probe
from uniavgen.media.video import read_video

from .builders import FPS, NUM_FRAMES, RATE_HZ, SIDE_PX


def packets(path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size]


def run(capsys, *argv) -> str:
    code = main([str(word) for word in argv])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def generate(capsys, model, inputs, out, *more) -> str:
    return run(
        capsys, "generate", "--image", inputs["face.png"], "--speech", "Hi there.", "--caption", "a person",
        "--model", model, "--out", out, "--num-frames", NUM_FRAMES, *more,
    )  # fmt: skip


def test_generate_writes_clip_preview_and_settings(capsys, model, inputs, tmp_path):
    printed = generate(capsys, model, inputs, tmp_path / "new" / "a.mp4", "--preview", "--seed", "7")
    assert f"{NUM_FRAMES} frames of {SIDE_PX}x{SIDE_PX} px at 16 fps" in printed
    info = probe(tmp_path / "new" / "a.mp4")
    assert (info.video.fps, info.video.duration_s, info.audio.rate_hz) == (FPS, NUM_FRAMES / 16, RATE_HZ)
    assert info.audio.duration_s == pytest.approx(NUM_FRAMES / 16, abs=0.01)
    settings = read_metadata(tmp_path / "new" / "a.mp4")
    assert (settings["task"], settings["seed"], settings["steps"], settings["speech"]) == ("joint", 7, 2, "Hi there.")
    assert Image.open(tmp_path / "new" / "a.png").width > 8 * 144
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["a.mp4", "a.png"]


def test_speech_that_will_be_hurried_is_warned_of(capsys, model, inputs, tmp_path):
    words = ("--image", inputs["face.png"], "--speech", "So they said.", "--num-frames", 9, "--model", model)
    assert main(["generate", *map(str, words), "--out", str(tmp_path / "a.mp4")]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: the speech takes about 0.8 s, the clip lasts 0.56 s, so it will be hurried; shorten it, or use "
        "--num-frames 17, which would fit"
    ]


def test_seed_decides_frames_and_samples(capsys, model, inputs, tmp_path, monkeypatch):
    # x264 now and then stores the same frames in other bytes; without loss that cannot be seen.
    monkeypatch.setattr("uniavgen.media.mux.CRF", 0)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(capsys, model, inputs, tmp_path / f"{name}.mp4", "--seed", seed)
    a, b, c = (read_video(tmp_path / f"{name}.mp4", FPS, rate_hz=RATE_HZ) for name in "abc")
    for part in ("frames", "waveform"):
        assert np.array_equal(getattr(a, part), getattr(b, part))
        assert not np.array_equal(getattr(a, part), getattr(c, part))


def test_generate_with_voice_uses_reference_audio(capsys, model, inputs, tmp_path):
    voice = ("--voice", inputs["voice.wav"], "--voice-text", "So I said.")
    generate(capsys, model, inputs, tmp_path / "a.mp4", *voice)
    settings = read_metadata(tmp_path / "a.mp4")
    assert (settings["task"], settings["voice_text"]) == ("reference_audio", "So I said.")
    assert settings["inputs"] == {"image": "face.png", "voice": "voice.wav"}


def test_dub_copies_the_picture_packets(capsys, model, inputs, tmp_path):
    out = tmp_path / "a.mp4"
    run(capsys, "dub", inputs["film.mp4"], "--speech", "Hi.", "--model", model, "--out", out)
    assert packets(out, "video") == packets(inputs["film.mp4"], "video")
    assert packets(out, "audio") != packets(inputs["film.mp4"], "audio")
    assert read_metadata(out)["task"] == "dubbing"


def test_dub_with_trim_ends_with_its_audio(capsys, model, inputs, tmp_path):
    out = tmp_path / "a.mp4"
    more = ("--model", model, "--out", out, "--trim", "--num-frames", NUM_FRAMES)
    run(capsys, "dub", inputs["long.mp4"], "--speech", "Hi.", *more)
    info = probe(out)
    assert NUM_FRAMES / 16 <= info.video.duration_s <= (NUM_FRAMES + 3) / 16
    assert info.audio.duration_s == pytest.approx(NUM_FRAMES / 16, abs=0.01)


@pytest.mark.parametrize("given", ["drive.wav", "film.mp4"])
def test_animate_keeps_the_recording(capsys, model, inputs, tmp_path, given):
    out = tmp_path / "a.mp4"
    printed = run(
        capsys, "animate", "--image", inputs["face.png"], "--audio", inputs[given], "--model", model, "--out", out
    )
    assert f"{NUM_FRAMES} frames" in printed
    if given == "film.mp4":
        assert packets(out, "audio") == packets(inputs[given], "audio")
    else:
        with av.open(str(out)) as new, av.open(str(inputs[given])) as old:
            now, was = (np.concatenate([f.to_ndarray() for f in c.decode(audio=0)], -1) for c in (new, old))
        np.testing.assert_array_equal(now, was)


def test_continue_writes_window_or_whole_clip(capsys, model, inputs, tmp_path):
    out, clip = tmp_path / "a.mp4", inputs["film.mp4"]
    more = ("--speech", "Hi.", "--keep", "0.25", "--num-frames", 13, "--model", model, "--out", out)
    run(capsys, "continue", clip, *more)
    window = read_video(out, FPS, rate_hz=RATE_HZ)
    assert len(window.frames) == 13
    assert read_metadata(out)["kept_frames"] == 5
    run(capsys, "continue", clip, *more, "--append")
    whole = read_video(out, FPS, rate_hz=RATE_HZ)
    assert whole.frames.shape == (NUM_FRAMES + 8, SIDE_PX, SIDE_PX, 3)
    assert len(whole.waveform) / RATE_HZ == pytest.approx((NUM_FRAMES + 8) / 16, abs=0.01)
    # Behind the clip the new part is as loud as in the window.
    new = slice(-RATE_HZ // 4, None)
    assert np.std(whole.waveform[new]) == pytest.approx(np.std(window.waveform[new]), rel=0.1)


def test_info_shows_settings_as_text_and_json(capsys, model, inputs, tmp_path):
    generate(capsys, model, inputs, tmp_path / "a.mp4")
    assert "Hi there." in run(capsys, "info", tmp_path / "a.mp4")
    printed = json.loads(run(capsys, "info", tmp_path / "a.mp4", "--json"))
    assert printed["settings"] == read_metadata(tmp_path / "a.mp4")
    assert printed["video"]["fps"] == "16"
    assert "nothing says that uniavgen made it" in run(capsys, "info", inputs["drive.wav"])


def test_help_lists_every_command_and_imports_nothing_heavy():
    script = """
        import sys
        from uniavgen.apps.cli import main
        code = main(["--help"])
        heavy = {"torch", "numpy", "av", "PIL", "diffusers", "transformers", "pydantic"} & set(sys.modules)
        assert not heavy, heavy
        sys.exit(code)
    """
    script = "\n".join(line.strip() for line in script.strip().splitlines())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for command in (
        "generate",
        "continue",
        "dub",
        "animate",
        "info",
        "synth",
        "prepare",
        "train",
        "convert",
        "evaluate",
    ):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize("command", ["generate", "continue", "dub", "animate", "info", "convert"])
def test_commands_have_help(capsys, command):
    assert f"uniavgen {command}" in run(capsys, command, "--help")
