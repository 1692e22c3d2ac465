"""What people's films and recordings are does not matter to a command, or is said before a model is loaded."""

import av
import numpy as np
import pytest

from uniavgen.apps.cli import main
from uniavgen.media.audio import read_audio, write_wav
from uniavgen.media.mux import read_metadata, write_clip
from uniavgen.media.video import read_video
from uniavgen.workflows.load import ModelLoader

from .builders import FPS, RATE_HZ, film, sound


def _write(path, *tracks, **arguments) -> None:
    """Writes streams of (encoder, rate, frames or samples, default flag)."""
    with av.open(str(path), "w", **arguments) as out:
        streams = [out.add_stream(codec, rate=rate) for codec, rate, _, _ in tracks]
        for stream, (codec, _, content, is_default) in zip(streams, tracks, strict=True):
            if content.ndim == 4:
                stream.height, stream.width = content.shape[1:3]
                stream.pix_fmt = "gray" if codec == "gif" else "yuv420p"
            else:
                stream.layout = "mono"
                stream.disposition = av.stream.Disposition.default if is_default else av.stream.Disposition(0)
        for stream, (_, rate, content, _) in zip(streams, tracks, strict=True):
            if content.ndim == 4:
                frames = [av.VideoFrame.from_ndarray(pixels) for pixels in content]
            else:
                frames = [av.AudioFrame.from_ndarray(content[None], "fltp", "mono")]
                frames[0].sample_rate = rate
            for frame in [*frames, None]:
                out.mux(stream.encode(frame))


def _run(capsys, model, *words) -> str:
    code = main([*map(str, words), "--model", str(model), "--device", "cpu", "--steps", "1"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


@pytest.mark.parametrize("command", ["animate", "generate", "continue"])
def test_default_track_is_used_and_noted(capsys, caplog, model, inputs, tmp_path, command):
    path, words = tmp_path / "two.mp4", sound(0.9)
    _write(path, ("libx264", 16, film(17), True), ("aac", RATE_HZ, 0 * words, False), ("aac", RATE_HZ, words, True))
    arguments = {
        "animate": ("--image", inputs["face.png"], "--audio", path, "--num-frames", 17),
        "generate": ("--image", inputs["face.png"], "--speech", "Hi", "--voice", path, "--voice-text", "Ha"),
        "continue": (path, "--speech", "Hi there", "--keep", "0.5", "--num-frames", 17),
    }[command]
    more = ("--num-frames", 9) if command == "generate" else ()
    _run(capsys, model, command, *arguments, *more, "--out", tmp_path / "out.mp4")
    assert [text for text in caplog.messages if "number 2 (aac), which has the default flag, is used" in text]
    if command == "animate":
        assert np.abs(read_audio(tmp_path / "out.mp4", RATE_HZ)).max() > 0.1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_animate_takes_any_recording_into_any_container(capsys, model, inputs, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    for codec, rate_hz in (("pcm_mulaw", 8000), ("pcm_s16le", 48_000), ("pcm_f32le", 192_000)):
        _write(tmp_path / "a.wav", (codec, rate_hz, np.tile(sound(0.5), 8)[: rate_hz // 2], True))
        _run(capsys, model, "animate", "--image", inputs["face.png"], "--audio", tmp_path / "a.wav", "--out", out)
        before, after = read_audio(tmp_path / "a.wav", RATE_HZ), read_audio(out, RATE_HZ)
        np.testing.assert_allclose(after, before, atol=1e-3)
        assert read_metadata(out)["kept_audio"] in ("copied", "lossless", "rounded to 24 bits")


def test_dub_takes_an_animated_picture(capsys, model, tmp_path):
    _write(tmp_path / "a.gif", ("gif", 10, film(9), True))
    printed = _run(capsys, model, "dub", tmp_path / "a.gif", "--speech", "Hi", "--out", tmp_path / "out.mp4")
    assert "stored anew as H.264" in printed
    assert len(read_video(tmp_path / "out.mp4", FPS).frames) == len(read_video(tmp_path / "a.gif", FPS).frames)


def test_container_is_checked_before_the_model_is_loaded(capsys, model, tmp_path, monkeypatch):
    _write(tmp_path / "a.webm", ("libvpx", 16, film(9), True))
    monkeypatch.setattr(ModelLoader, "load_for", lambda *_: pytest.fail("the model is loaded"))
    code = main(
        ["dub", str(tmp_path / "a.webm"), "--speech", "Hi", "--model", str(model), "--out", f"{tmp_path}/a.mp4"]
    )
    assert code == 2
    assert (
        "stored as vp8, which .mp4 cannot hold unchanged; choose an output that ends in .mkv" in capsys.readouterr().err
    )


def test_cut_off_recording_loses_only_its_end(capsys, caplog, model, inputs, tmp_path):
    write_wav(tmp_path / "a.wav", sound(2.0), RATE_HZ)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: len(data) // 2])
    for suffix in (".mp4", ".mkv"):
        arguments = ("--image", inputs["face.png"], "--audio", tmp_path / "a.wav", "--out", tmp_path / f"b{suffix}")
        _run(capsys, model, "animate", *arguments)
        assert len(read_audio(tmp_path / f"b{suffix}", RATE_HZ)) == pytest.approx(RATE_HZ, abs=100)
    assert len([text for text in caplog.messages if "a.wav is incomplete" in text]) == 2


def test_info_shows_a_clip_without_settings(capsys, tmp_path):
    write_clip(tmp_path / "a.mp4", film(9), FPS, sound(0.5), RATE_HZ, {})
    assert main(["info", str(tmp_path / "a.mp4")]) == 0
    assert "nothing says that uniavgen made it" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["dub", "continue"])
def test_film_without_an_index_is_used(capsys, model, tmp_path, command):
    path = tmp_path / "film.flv"
    # Beside MP3 the pictures begin some milliseconds late, and FLV has no picture to rewind to.
    _write(path, ("flv1", 16, film(17), True), ("libmp3lame", 44_100, np.zeros(46_000, np.float32), True))
    more = ("--keep", "0.5") if command == "continue" else ()
    _run(capsys, model, command, path, "--speech", "Hi", "--num-frames", 17, *more, "--out", tmp_path / "out.mp4")
    assert len(read_video(tmp_path / "out.mp4", FPS).frames) == 17
