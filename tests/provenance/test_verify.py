"""What is said of a file: marked, encoded anew, cut, edited, unmarked, foreign, signed by somebody else."""

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.provenance.test_picture_mark import drawn_frames, encoded
from tests.provenance.test_sound_mark import RATE_HZ, speech_like

from uniavgen.errors import ConfigError, MediaError
from uniavgen.media.audio import read_audio
from uniavgen.media.mux import write_clip
from uniavgen.provenance import manifest, signing_key
from uniavgen.provenance.manifest import ClipRecord, InputFile, check_key, find_c2pa, sign_clip
from uniavgen.provenance.marking import mark_clip
from uniavgen.provenance.signing_key import own_key, own_key_path, read_key
from uniavgen.provenance.verify import ManifestState, Verdict, verify

FPS = Fraction(16)
SETTINGS = {"made_by": "uniavgen", "task": "joint", "model": "nano", "marks": {}}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder with a signed clip, and the same clip without any mark."""
    folder = tmp_path_factory.mktemp("clips")
    frames, waveform = drawn_frames(36), speech_like(36 / 16)
    marked = mark_clip(frames, waveform, RATE_HZ)
    assert marked.marks == {"picture": "tile-1", "sound": "resemble-perth-1.0.1"}
    record = ClipRecord(
        task="joint",
        model="nano",
        inputs=[InputFile(role="image", name="face.png", sha256="0" * 64)],
        marks=marked.marks,
        settings=SETTINGS,
        consent="I am this person.",
    )
    key = own_key()
    write_clip(
        folder / "signed.mp4",
        marked.frames,
        FPS,
        marked.waveform,
        RATE_HZ,
        SETTINGS,
        lambda path: sign_clip(path, record, key),
    )
    write_clip(folder / "signed.mov", frames, FPS, waveform, RATE_HZ, {}, lambda path: sign_clip(path, record, key))
    write_clip(folder / "plain.mp4", frames, FPS, waveform, RATE_HZ, SETTINGS)
    write_clip(folder / "mute.mkv", marked.frames, FPS, np.zeros(RATE_HZ, np.float32), RATE_HZ, {})
    return folder


def copied(source: Path, out: Path, keep: float = 1.0) -> Path:
    """Copies the packets of the first part of a file, without manifest and settings."""
    with av.open(str(source)) as read, av.open(str(out), "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None and packet.pts * packet.time_base < keep * 36 / 16:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    return out


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_verify_of_a_signed_clip_says_by_whom_and_from_what(clips):
    answer = verify(clips / "signed.mp4")
    assert answer.verdict is Verdict.SIGNED
    assert answer.manifest.state is ManifestState.VALID
    assert answer.manifest.is_own_key
    assert answer.manifest.is_made_by_ai
    assert answer.picture.is_found
    assert answer.sound.is_found
    record = answer.manifest.record
    assert record is not None
    assert (record["task"], record["model"], record["consent"]) == ("joint", "nano", "I am this person.")
    assert record["inputs"] == [{"role": "image", "name": "face.png", "sha256": "0" * 64, "is_kept": False}]
    assert any("face.png" in line for line in answer.lines())


def test_verify_of_quicktime_reads_the_manifest(clips):
    answer = verify(clips / "signed.mov")
    assert answer.verdict is Verdict.SIGNED
    assert not answer.picture.is_found


def test_signing_keeps_frames_sound_and_settings(clips, tmp_path):
    unsigned = copied(clips / "signed.mp4", tmp_path / "a.mp4")
    assert np.array_equal(decoded(clips / "signed.mp4"), decoded(unsigned))
    assert np.array_equal(read_audio(clips / "signed.mp4", RATE_HZ), read_audio(unsigned, RATE_HZ))
    assert verify(clips / "signed.mp4").settings == SETTINGS


def test_verify_of_a_clip_that_was_encoded_anew_finds_the_marks(clips, tmp_path):
    frames = encoded(decoded(clips / "signed.mp4"), 26)
    write_clip(tmp_path / "a.mp4", frames, FPS, read_audio(clips / "signed.mp4", RATE_HZ), RATE_HZ, {})
    answer = verify(tmp_path / "a.mp4")
    assert answer.verdict is Verdict.MARKED
    assert answer.picture.is_found
    assert answer.sound.is_found


@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_verify_of_a_clip_that_was_copied_or_cut_finds_the_marks(clips, tmp_path, keep):
    answer = verify(copied(clips / "signed.mp4", tmp_path / "a.mp4", keep))
    assert (answer.verdict, answer.manifest.state) == (Verdict.MARKED, ManifestState.ABSENT)
    assert answer.picture.is_found
    assert answer.sound.is_found


def box_at(content: bytes, name: bytes) -> tuple[int, int]:
    """Returns where a box of the top level begins and how long it is."""
    position = 0
    while content[position + 4 : position + 8] != name:
        position += int.from_bytes(content[position : position + 4])
    return position, int.from_bytes(content[position : position + 4])


@pytest.mark.parametrize("name", [b"ftyp", b"uuid", b"moov", b"mdat", b"free"])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.95])
def test_verify_of_a_clip_with_one_edited_byte_says_so(clips, tmp_path, name, where):
    content = bytearray((clips / "signed.mp4").read_bytes())
    begin, size = box_at(content, name)
    content[begin + 8 + int(where * (size - 8)) - (size == 8)] ^= 4
    (tmp_path / "a.mp4").write_bytes(content)
    try:
        answer = verify(tmp_path / "a.mp4")
    except MediaError:
        return
    assert answer.verdict not in (Verdict.SIGNED, Verdict.SIGNED_BY_OTHERS)
    assert answer.manifest.state is not ManifestState.VALID


def test_verify_of_a_truncated_clip_says_so(clips, tmp_path):
    content = (clips / "signed.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) * 3 // 4])
    assert verify(tmp_path / "a.mp4").verdict is Verdict.CHANGED


def test_verify_of_an_unmarked_clip_believes_nothing(clips):
    answer = verify(clips / "plain.mp4")
    assert answer.verdict is Verdict.STATED
    assert not answer.picture.is_found
    assert not answer.sound.is_found
    assert "nothing proves" in answer.sentence


def test_verify_of_a_foreign_file_knows_nothing(clips, tmp_path):
    assert verify(copied(clips / "plain.mp4", tmp_path / "a.mp4")).verdict is Verdict.UNKNOWN


def test_verify_of_silence_and_matroska_goes_by_the_picture(clips):
    answer = verify(clips / "mute.mkv")
    assert answer.verdict is Verdict.MARKED
    assert answer.sound.score is None


def test_verify_of_another_programs_manifest_names_it(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "GENERATOR", "Another Program")
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(signing_key._made_key())
    path = copied(clips / "plain.mp4", tmp_path / "a.mp4")
    sign_clip(path, ClipRecord(task="joint", model="other", marks={}, settings={}), read_key(stranger))
    answer = verify(path)
    assert answer.verdict is Verdict.SIGNED_BY_OTHERS
    assert not answer.manifest.is_own_key
    assert answer.manifest.generator.startswith("Another Program")
    assert answer.manifest.record is None


def test_verify_does_not_take_a_strangers_key_for_ones_own(clips, tmp_path):
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(signing_key._made_key())
    path = copied(clips / "plain.mp4", tmp_path / "a.mp4")
    sign_clip(path, ClipRecord(task="joint", model="nano", marks={}, settings={}), read_key(stranger))
    answer = verify(path)
    assert answer.verdict is Verdict.SIGNED
    assert not answer.manifest.is_own_key
    assert "nobody here vouches for" in answer.sentence


def test_own_key_is_made_once_and_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = own_key()
    assert own_key_path().stat().st_mode & 0o777 == 0o600
    assert own_key().private_pem == first.private_pem
    assert [path.name for path in own_key_path().parent.iterdir()] == ["c2pa.pem"]
    check_key(first, "made")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pem: b"", "no private key"),
        (lambda pem: pem[: pem.index(b"-----BEGIN CERTIFICATE")], "no certificate"),
        (lambda pem: pem[pem.index(b"-----BEGIN CERTIFICATE") :], "no private key"),
        (lambda pem: signing_key._made_key().split(b"-----BEGIN CERT")[0] + pem, "belongs to its private key"),
        (lambda pem: pem.replace(b"A", b"%"), "no private key"),
    ],
)
def test_keys_that_cannot_sign_are_refused(tmp_path, change, words):
    path = tmp_path / "key.pem"
    path.write_bytes(change(signing_key._made_key()))
    with pytest.raises(ConfigError, match=words):
        read_key(path)


def test_signed_file_holds_a_manifest_in_the_fields_words(clips):
    library = find_c2pa()
    assert library is not None
    with library.Reader("video/mp4", io.BytesIO((clips / "signed.mp4").read_bytes())) as reader:
        data = json.loads(reader.json())
    active = data["manifests"][data["active_manifest"]]
    (action,) = next(each for each in active["assertions"] if each["label"] == "c2pa.actions.v2")["data"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    (ingredient,) = active["ingredients"]
    assert (ingredient["title"], ingredient["relationship"]) == ("face.png", "inputTo")
    assert ingredient["instance_id"] == "urn:sha256:" + "0" * 64
