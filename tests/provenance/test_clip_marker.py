"""What is marked of a clip of each task, and what is said where something cannot be marked or signed."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from PIL import Image
from tests.provenance.test_picture_mark import drawn_frames
from tests.provenance.test_sound_mark import RATE_HZ, speech_like

from uniavgen.apps.cli import main
from uniavgen.errors import ConfigError
from uniavgen.inference.clip import Clip
from uniavgen.media.mux import write_clip
from uniavgen.media.packing import encode_wav
from uniavgen.media.probe import probe
from uniavgen.provenance import signing_key
from uniavgen.provenance.config import MarkingConfig
from uniavgen.provenance.verify import Verdict, verify
from uniavgen.workflows import marking
from uniavgen.workflows.clip_jobs import AnimateJob, ClipJob, DubJob, GeneratedClip, GenerateJob
from uniavgen.workflows.continue_clip import ContinueJob
from uniavgen.workflows.generate import clip_settings, write_clip_file
from uniavgen.workflows.load import ModelLoader
from uniavgen.workflows.load_config import LoadConfig
from uniavgen.workflows.marking import ClipMarker

NUM_FRAMES = 33
FPS = Fraction(16)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    frames, voice = drawn_frames(NUM_FRAMES)[:, :, 16:144], speech_like(NUM_FRAMES / 16)
    Image.fromarray(frames[0]).save(folder / "face.png")
    (folder / "voice.wav").write_bytes(encode_wav(voice, RATE_HZ))
    write_clip(folder / "film.mp4", frames, FPS, voice, RATE_HZ, {})
    return folder


def jobs(folder: Path) -> dict[str, ClipJob]:
    return {
        "generate": GenerateJob(image=folder / "face.png", speech="Hi.", num_frames=NUM_FRAMES),
        "dub": DubJob(video=folder / "film.mp4", speech="Hi.", num_frames=NUM_FRAMES),
        "animate": AnimateJob(image=folder / "face.png", audio=folder / "voice.wav", num_frames=NUM_FRAMES),
        "continue": ContinueJob(clip=folder / "film.mp4", speech="Hi.", keep_s=1.0, num_frames=NUM_FRAMES),
    }


def generated(job: ClipJob) -> GeneratedClip:
    """Returns a clip as the pipeline would, of drawn frames."""
    prepared = ModelLoader(LoadConfig()).prepare(job.read())
    clip = Clip(
        frames=drawn_frames(NUM_FRAMES, seed=1)[:, :, 16:144],
        fps=FPS,
        waveform=speech_like(NUM_FRAMES / 16, seed=1),
        sample_rate_hz=RATE_HZ,
        mel=np.zeros((2, 80), np.float32),
        face_mask=None,
        settings={"task": str(prepared.task)},
    )
    return GeneratedClip(clip=clip, settings=clip_settings(job, "nano", clip), prepared=prepared)


def given_leading(before: np.ndarray, after: np.ndarray) -> int:
    """Returns how many frames or samples at the beginning are the same."""
    same = (before == after).reshape(len(before), -1).all(axis=1)
    return len(same) if same.all() else int(np.argmin(same))


@pytest.mark.parametrize(
    ("command", "frames"), [("generate", 0), ("dub", NUM_FRAMES), ("animate", 0), ("continue", 17)]
)
def test_what_the_user_gave_is_not_marked(inputs, command, frames):
    job = jobs(inputs)[command]
    before = generated(job)
    after = ClipMarker.build(MarkingConfig(), ".mp4").mark(job, before)
    assert given_leading(before.clip.frames, after.clip.frames) == frames
    kept = given_leading(before.clip.waveform, after.clip.waveform)
    given = {"animate": len(before.clip.waveform), "continue": before.prepared.inputs.given_tokens * 240}.get(
        command, 0
    )
    # The mark begins slowly behind given sound.
    assert given <= kept < given + 240
    expected = {
        "picture": "none: it was given" if command == "dub" else "tile-1",
        "sound": "none: it was given" if command == "animate" else "resemble-perth-1.0.1",
        "manifest": "c2pa",
    }
    assert after.settings["marks"] == expected


@pytest.mark.parametrize("command", ["dub", "animate", "continue"])
def test_signed_file_says_what_was_kept(inputs, tmp_path, command):
    job, out = jobs(inputs)[command], tmp_path / "a.mp4"
    write_clip_file(job, out, generated(job), False, ClipMarker.build(MarkingConfig(), out.suffix))
    answer = verify(out)
    assert answer.verdict is Verdict.SIGNED
    assert answer.picture.is_found is (command != "dub")
    assert answer.sound.is_found is (command != "animate")
    record = answer.manifest.record
    assert record is not None
    assert [each["role"] for each in record["inputs"] if each["is_kept"]] == [job.kept_input]


def test_no_mark_changes_nothing_and_is_written_in_the_settings(inputs, tmp_path):
    job, out = jobs(inputs)["generate"], tmp_path / "a.mp4"
    before = generated(job)
    file = write_clip_file(job, out, before, False, ClipMarker.build(MarkingConfig(no_mark=True), out.suffix))
    assert file.clip.frames is before.clip.frames
    assert file.clip.waveform is before.clip.waveform
    settings = probe(out).settings
    assert settings is not None
    assert settings["marks"] == dict.fromkeys(("picture", "sound", "manifest"), "none: --no-mark")
    assert verify(out).verdict is Verdict.STATED


def test_what_keeps_a_clip_from_being_signed_is_told_and_stored(inputs, tmp_path, monkeypatch):
    job = jobs(inputs)["generate"]
    said: list[str] = []
    marker = ClipMarker.build(MarkingConfig(), ".mkv", said.append)
    assert marker.mark(job, generated(job)).settings["marks"]["manifest"] == "none: .mkv files take none; use .mp4"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert "no key for manifests can be kept" in ClipMarker.build(MarkingConfig(), ".mp4", said.append).unsigned_because
    monkeypatch.setattr(marking, "find_c2pa", lambda: None)
    assert ClipMarker.build(MarkingConfig(), ".mp4", said.append).key is None
    assert len(said) == 3
    assert all(line.startswith("the clip gets no signed manifest: ") for line in said)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--c2pa-key", "missing.pem"), "cannot be read"),
        (("--c2pa-key", "face.png"), "no private key"),
        (("--c2pa-key", "."), "cannot be read"),
        (("--no-mark", "--consent", "yes"), "--consent is for the manifest"),
        (("--consent", " "), "1 to 1000 letters"),
    ],
)
def test_marking_options_that_cannot_be_used_are_one_sentence(inputs, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.chdir(inputs)
    command = ["generate", "--image", "face.png", "--speech", "Hi", "--out", str(tmp_path / "a.mp4"), *more]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert words in message
    assert len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_key_that_c2pa_refuses_is_refused_before_anything_is_made(tmp_path):
    """A certificate for a web server may not sign manifests."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = signing_key._name("localhost")
    root = signing_key._certificate(name, name, key, key, is_root=True)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + root.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(ConfigError, match="cannot sign a manifest"):
        ClipMarker.build(MarkingConfig(c2pa_key=tmp_path / "key.pem"), ".mp4")
