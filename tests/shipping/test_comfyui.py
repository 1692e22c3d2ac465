"""ComfyUI's nodes keep its contract, and values flow through all of them."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.shipping import comfyui
from tests.shipping.outside import ROOT

import uniavgen
from uniavgen.media.audio import read_audio
from uniavgen.media.reader import open_media
from uniavgen.media.video import decode_video

FRAMES, RATE_HZ = 17, 24_000
PICTURE = ROOT / "examples" / "person.png"
SPEECH = "Hello there."


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def nodes(patch, output, tmp_path_factory) -> dict:
    loras = tmp_path_factory.mktemp("loras")
    (loras / "me.safetensors").touch()
    return comfyui.install(patch, output, loras).NODE_CLASS_MAPPINGS


@pytest.fixture(scope="module")
def model(nodes):
    return comfyui.run(nodes["UniAVGenLoadModel"], device="cpu", max_frames=FRAMES)[0]


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """The example picture as IMAGE."""
    return torch.from_numpy(np.array(Image.open(PICTURE).convert("RGB")))[None].float() / 255


@pytest.fixture(scope="module")
def joint(nodes, model, image) -> tuple:
    """The three values of the node for joint generation."""
    return comfyui.run(
        nodes["UniAVGenJoint"], model=model, image=image, speech=SPEECH, num_frames=FRAMES, steps=2, seed=3
    )


def frames_of(video: comfyui.VideoFromFile) -> np.ndarray:
    with open_media(video.file) as reader:
        return decode_video(reader, uniavgen.Timebase.fps).frames


def test_nodes_keep_the_contract_of_comfyui(nodes):
    produced = {each for node in nodes.values() for each in node.RETURN_TYPES} | comfyui.TYPES
    for node in nodes.values():
        assert node.CATEGORY == "UniAVGen"
        assert node.INPUT_TYPES().keys() <= {"required", "optional", "hidden"}
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        for name, (kind, *options) in comfyui.inputs_of(node).items():
            if isinstance(kind, list):
                assert all(isinstance(choice, str) for choice in kind)
                continue
            assert kind in produced, name
            if kind in comfyui.WIDGETS:
                default = options[0]["default"]
                assert type(default) is comfyui.WIDGETS[kind]
                assert options[0].get("min", default) <= default <= options[0].get("max", default)
        parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
        taken = {name for name, each in parameters.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}
        assert taken - {"self"} <= comfyui.inputs_of(node).keys()


def test_every_node_has_a_name_that_is_shown_and_is_in_the_readme(nodes):
    package = inspect.getmodule(next(iter(nodes.values())))
    assert package.NODE_DISPLAY_NAME_MAPPINGS.keys() == nodes.keys()
    readme = (ROOT / "integrations" / "comfyui" / "README.md").read_text()
    assert all(
        f"| {shown.removesuffix(' (UniAVGen)')} |" in readme for shown in package.NODE_DISPLAY_NAME_MAPPINGS.values()
    )


def test_lora_nodes_are_chained(nodes, tmp_path):
    (first,) = comfyui.run(nodes["UniAVGenLora"], file="me.safetensors", scale=0.5)
    (both,) = comfyui.run(nodes["UniAVGenLora"], file="me.safetensors", scale=1.0, lora=first)
    assert [text.rpartition("/")[2] for text in both] == ["me.safetensors:0.5", "me.safetensors:1"]


def test_adapters_reach_the_model(nodes):
    """The file is empty, which only reading it can tell."""
    (lora,) = comfyui.run(nodes["UniAVGenLora"], file="me.safetensors", scale=0.5)
    with pytest.raises(uniavgen.UniAVGenError, match=r"me\.safetensors"):
        comfyui.run(nodes["UniAVGenLoadModel"], device="cpu", lora=lora)


@pytest.mark.slow
def test_joint_node_gives_the_clip_of_the_package(joint, tmp_path, output):
    video, frames, audio = joint
    job = uniavgen.GenerateJob(image=PICTURE, speech=SPEECH, num_frames=FRAMES, seed=3, sampling={"steps": 2})
    expected = uniavgen.generate(job, tmp_path / "clip.mp4", uniavgen.LoadConfig(device="cpu"))
    assert video.file == output / "video" / "uniavgen_00001_.mp4"
    assert frames.shape == (FRAMES, *expected.clip.frames.shape[1:])
    assert torch.equal((frames * 255).round().to(torch.uint8), torch.from_numpy(expected.clip.frames))
    assert torch.equal(audio["waveform"], torch.from_numpy(expected.clip.waveform)[None, None])
    assert audio["sample_rate"] == RATE_HZ
    assert np.array_equal(frames_of(video), frames_of(comfyui.VideoFromFile(tmp_path / "clip.mp4")))
    assert comfyui.ProgressBar.told[-1][0] == comfyui.ProgressBar.told[-1][1]


@pytest.mark.slow
def test_voice_node_takes_the_sound_of_another_node(nodes, model, image, joint):
    settings = {"speech": "It is late.", "voice_text": SPEECH, "num_frames": FRAMES, "steps": 1}
    settings["consent"] = "It is my own voice."
    video, frames, audio = comfyui.run(nodes["UniAVGenVoice"], model=model, image=image, voice=joint[2], **settings)
    assert frames.shape == joint[1].shape
    assert audio["waveform"].shape == joint[2]["waveform"].shape
    assert not torch.equal(audio["waveform"], joint[2]["waveform"])
    signed = uniavgen.verify(video.file).manifest.record
    assert (signed["task"], signed["consent"]) == ("reference_audio", "It is my own voice.")


@pytest.mark.slow
def test_continue_node_appends_to_the_video_of_another_node(nodes, model, joint):
    settings = {"speech": "Hello there, you.", "keep_seconds": 0.5, "num_frames": FRAMES, "steps": 1, "append": True}
    video, window, _ = comfyui.run(nodes["UniAVGenContinue"], model=model, video=joint[0], **settings)
    kept = 9
    assert len(window) == FRAMES
    assert len(frames_of(video)) == FRAMES + FRAMES - kept


@pytest.mark.slow
def test_dub_node_keeps_the_frames_of_the_video(nodes, model, joint):
    video, _, audio = comfyui.run(
        nodes["UniAVGenDub"], model=model, video=joint[0], speech="Goodbye.", num_frames=FRAMES, steps=1
    )
    assert np.array_equal(frames_of(video), frames_of(joint[0]))
    assert not torch.equal(audio["waveform"], joint[2]["waveform"])


@pytest.mark.slow
def test_animate_node_keeps_the_sound(nodes, model, image, joint):
    video, frames, audio = comfyui.run(nodes["UniAVGenAnimate"], model=model, image=image, audio=joint[2], steps=1)
    assert torch.equal(audio["waveform"], joint[2]["waveform"])
    assert len(frames) == FRAMES
    heard = read_audio(video.file, RATE_HZ)
    given = joint[2]["waveform"][0, 0].numpy()
    count = min(len(heard), len(given))
    assert np.corrcoef(heard[:count], given[:count])[0, 1] > 0.99


def test_several_pictures_are_refused_in_one_sentence(nodes, model, image):
    with pytest.raises(uniavgen.UniAVGenError, match="one picture is needed, the input holds 2"):
        comfyui.run(nodes["UniAVGenJoint"], model=model, image=torch.cat([image, image]), speech=SPEECH)
