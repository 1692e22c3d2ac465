import io
import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from uniavgen.apps.cli import main
from uniavgen.codecs.frame_convolution import use_frame_convolutions
from uniavgen.codecs.video_vae import VideoCodec, VideoVaeShape, to_pixels
from uniavgen.config import load
from uniavgen.data.extract import mouth_region
from uniavgen.data.shards import ShardWriter
from uniavgen.errors import CheckpointError, ConfigError, DataError
from uniavgen.training.codecs.caption import (
    CaptionEncoderConfig,
    CaptionObjective,
    CaptionTrainConfig,
    read_caption_examples,
    synthetic_caption_examples,
)
from uniavgen.training.codecs.discriminators import DiscriminatorConfig
from uniavgen.training.codecs.run import CodecLoopConfig, train_codec
from uniavgen.training.codecs.video_vae import (
    TrainingPhase,
    VideoVAEObjective,
    VideoVAETrainConfig,
    motion_distance,
    reconstruction_distance,
    store_latent_statistics,
)
from uniavgen.training.codecs.video_vae_init import (
    init_framewise,
    init_with_principal_components,
    linear_view,
)
from uniavgen.training.codecs.vocoder import VocoderConfig, VocoderObjective, VocoderTrainConfig, spectral_distance
from uniavgen.training.codecs.waveforms import read_waveforms
from uniavgen.training.codecs.weighted_clips import RegionWeights, WeightedClips
from uniavgen.training.loop import StepRecord
from uniavgen.training.objective import Objective

CPU = torch.device("cpu")
SIZE, FRAMES = 32, 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips with pictures, sound, a face and a caption."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    mask = np.zeros((FRAMES, SIZE, SIZE), bool)
    mask[:, 6:26, 8:24] = True
    stored = io.BytesIO()
    np.savez(stored, face_mask=np.packbits(mask), face_mask_shape=np.array(mask.shape))
    with ShardWriter(folder) as writer:
        for number, gender in enumerate(["female", "male", "female"]):
            facts = {"text": "Hi.", "caption": f"A {gender} person.", "gender": gender, "age": 20.0 + 30 * number}
            frames = rng.integers(0, 255, (FRAMES, 4, 4, 3), np.uint8).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
            sound = (rng.normal(size=14_400) * 2000).astype(np.int16)
            parts = {"json": json.dumps(facts).encode(), "npz": stored.getvalue()}
            writer.write(f"clip-{number}", parts | {"mp4": _mp4(frames), "wav": _wav(sound)})
    return folder


def _mp4(frames: np.ndarray) -> bytes:
    stored = io.BytesIO()
    with av.open(stored, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.height, stream.width, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.options = {"threads": "1"}
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return stored.getvalue()


def _wav(samples: np.ndarray) -> bytes:
    stored = io.BytesIO()
    with av.open(stored, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=24_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate = 24_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return stored.getvalue()


def loop(steps: int = 4) -> CodecLoopConfig:
    return CodecLoopConfig(steps=steps, lr=3e-3, warmup_steps=2, save_every=2)


def vocoder(folder: Path) -> Objective:
    config = VocoderTrainConfig(
        model=VocoderConfig(width=8, hidden=9, num_layers=1),
        # Resumed before the discriminators' first step.
        discriminator=DiscriminatorConfig(start=0.7, periods=(2,), fft_sizes=(64,), width=2),
        loop=loop(),
        batch_size=2,
        crop_frames=11,
        fft_sizes=(256, 64),
        held_out=1,
    )
    return VocoderObjective.from_folder(config, folder, CPU)


def vae_config() -> VideoVAETrainConfig:
    phases = (
        TrainingPhase(share=0.5, num_frames=1, batch_size=2, linear=True),
        TrainingPhase(share=0.5, num_frames=5, batch_size=1),
    )
    shape = VideoVaeShape(width=4, decoder_width=4, latent_channels=3)
    return VideoVAETrainConfig(model=shape, loop=loop(), phases=phases, size_px=SIZE)


def video_vae(folder: Path) -> Objective:
    return VideoVAEObjective.from_folder(vae_config(), folder, CPU)


def caption(folder: Path) -> Objective:
    bounds = {"age": (30.0, 60.0)}
    shape = CaptionEncoderConfig(width=8, hidden=9, num_heads=2, num_layers=1, max_tokens=10)
    config = CaptionTrainConfig(model=shape, loop=loop(), batch_size=4, facts=("gender", "age"), bounds=bounds)
    return CaptionObjective(config, read_caption_examples(folder, bounds), CPU)


def records_of(objective: Objective, config: CodecLoopConfig, folder: Path, last_step: int = 10**9) -> list[StepRecord]:
    """Train a codec; the record of every step."""
    records: list[StepRecord] = []
    stopped = lambda: bool(records) and records[-1].step >= last_step  # noqa: E731
    train_codec(objective, config, folder, [lambda record, state: records.append(record)], stopped)
    return records


@pytest.mark.parametrize("make", [vocoder, video_vae, caption])
def test_resumed_codec_training_equals_uninterrupted_training(make, shards: Path, tmp_path: Path):
    whole, first, second = make(shards), make(shards), make(shards)
    losses = [record.values["total"] for record in records_of(whole, loop(), tmp_path / "whole")]
    head = records_of(first, loop(), tmp_path / "parts", last_step=3)
    # The third step was done but not saved: a resumed run does it again.
    tail = records_of(second, loop(), tmp_path / "parts")
    assert [record.step for record in tail] == [3, 4]
    assert [record.values["total"] for record in [*head[:2], *tail]] == losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["step-00000004"]


def test_discriminators_begin_after_their_share_of_the_steps(shards: Path, tmp_path: Path):
    records = records_of(vocoder(shards), loop(), tmp_path)
    assert ["discriminator" in record.losses for record in records] == [False, False, False, True]


def test_caption_training_lowers_the_loss(shards: Path, tmp_path: Path):
    config = loop(steps=30)
    records = records_of(caption(shards), config, tmp_path)
    assert records[-1].values["total"] < 0.9 * records[0].values["total"]


def test_codec_learning_rate_warms_up_and_ends_low():
    config = CodecLoopConfig(steps=100, lr=1.0, warmup_steps=10, decay_share=0.5)
    rates = [config.schedule().at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:50] == pytest.approx([1.0] * 41)
    assert sorted(rates[50:], reverse=True) == rates[50:]
    assert rates[-1] < 0.02


def test_checkpoint_of_another_codec_is_refused(shards: Path, tmp_path: Path):
    train_codec(vocoder(shards), loop(), tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        train_codec(caption(shards), loop(), tmp_path)


def test_phases_split_the_steps_by_share():
    config = vae_config()
    assert [config.phase(step).num_frames for step in range(4)] == [1, 1, 5, 5]
    with pytest.raises(ConfigError, match="add up to 1"):
        VideoVAETrainConfig(loop=loop(), phases=(TrainingPhase(share=0.5),))


def small_vae(*factors: int) -> AutoencoderKLWan:
    shape = VideoVaeShape(width=12, decoder_width=12, latent_channels=7, width_factors=factors or (1, 1, 1, 1))
    return shape.build().eval()


@pytest.mark.parametrize("frames_are_mixed", [True, False])
def test_frame_convolutions_change_neither_values_nor_names(frames_are_mixed: bool):
    vae = small_vae()
    if not frames_are_mixed:
        init_framewise(vae)
    pixels, names = torch.rand(1, 3, 9, 32, 48) * 2 - 1, list(vae.state_dict())
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode()
        decoded = vae.decode(latents).sample
        use_frame_convolutions(vae)
        assert list(vae.state_dict()) == names
        torch.testing.assert_close(vae.encode(pixels).latent_dist.mode(), latents, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(vae.decode(latents).sample, decoded, rtol=1e-4, atol=1e-5)


def test_framewise_init_codes_a_clip_as_its_images():
    vae = small_vae()
    init_framewise(vae)
    codec, picture = VideoCodec(vae), torch.rand(1, 3, 1, 32, 48) * 2 - 1
    decoded = codec.decode(codec.encode(picture.expand(-1, -1, 9, -1, -1)))
    first = codec.decode(codec.encode(picture))
    torch.testing.assert_close(decoded[:, :, :1], first, rtol=1e-3, atol=1e-4)
    # What was decoded once is only repeated: no frame of a latent frame differs from the others.
    torch.testing.assert_close(decoded[:, :, 5:6].expand(-1, -1, 4, -1, -1), decoded[:, :, 5:9], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factors", [(1, 1, 1, 1), (1, 2, 2, 2)])
def test_encoder_init_keeps_principal_components(factors: tuple[int, ...]):
    vae = small_vae(*factors)
    # One block of 16 x 16 pixels: three colours, and three slopes of grey.
    generator, ramp = torch.Generator().manual_seed(0), torch.linspace(-1, 1, 16)
    slopes = torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16), ramp * ramp[:, None]])
    directions = torch.cat(
        [torch.eye(3)[:, :, None, None].expand(-1, -1, 16, 16), slopes[:, None].expand(-1, 3, 16, 16)]
    )
    strengths = torch.randn(400, 6, generator=generator) * torch.tensor([0.5, 0.4, 0.3, 0.3, 0.25, 0.2])
    pictures = torch.einsum("b k, k c h w -> b c h w", strengths, directions)[:, :, None]
    init_with_principal_components(vae, pictures)
    latents = VideoCodec(vae).encode(pictures)[:, :, 0, 0, 0]
    regressors = torch.cat([latents, torch.ones(400, 1)], dim=1)
    # Everything that varies is told by the latents, up to the encoder's last norm and activation.
    told = torch.linalg.lstsq(regressors, strengths, driver="gelsd").solution
    left = strengths - regressors @ told
    assert float((left.var(dim=0) / strengths.var(dim=0)).max()) < 0.15
    assert torch.allclose(latents.mean(dim=0), torch.zeros(7), atol=0.1)


def test_linear_view_equals_autoencoder_whose_residual_branches_are_zero():
    vae, pixels = small_vae(), torch.rand(2, 3, 5, 32, 32) * 2 - 1
    init_with_principal_components(vae, pixels[:, :, :1])
    codec = VideoCodec(vae)
    whole = codec.decode(codec.encode(pixels))
    linear = VideoCodec(linear_view(vae))
    torch.testing.assert_close(linear.decode(linear.encode(pixels)), whole, rtol=1e-4, atol=1e-5)
    torch.nn.init.ones_(vae.decoder.mid_block.resnets[0].conv2.weight)
    assert not torch.allclose(codec.decode(codec.encode(pixels)), whole)
    torch.testing.assert_close(linear.decode(linear.encode(pixels)), whole, rtol=1e-4, atol=1e-5)
    # Parameters are shared: what is trained in the view is trained in the autoencoder.
    assert {id(value) for value in linear_view(vae).parameters()} < {id(value) for value in vae.parameters()}


def test_stored_statistics_normalise_latents_to_mean_0_and_deviation_1(shards: Path):
    objective = VideoVAEObjective.from_folder(vae_config(), shards, CPU)
    store_latent_statistics(objective.model, objective.clips)
    frames = torch.cat([to_pixels(torch.from_numpy(objective.clips.read(i).frames[None])) for i in range(3)])
    latents = VideoCodec(objective.model).encode(frames)
    assert torch.allclose(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(3), atol=1e-3)
    assert torch.allclose(latents.std(dim=(0, 2, 3, 4), correction=0), torch.ones(3), atol=1e-3)


def further_config(steps: int, latent_weight: float) -> VideoVAETrainConfig:
    phases = (TrainingPhase(share=1.0, num_frames=5, batch_size=1),)
    return VideoVAETrainConfig(
        loop=loop(steps), phases=phases, size_px=SIZE, motion_weight=1.0, latent_weight=latent_weight
    )


def test_latent_weight_keeps_latents_near_those_of_the_initial_autoencoder(shards: Path, tmp_path: Path):
    def moved(latent_weight: float) -> float:
        before, given = (VideoVAEObjective.from_folder(vae_config(), shards, CPU).model for _ in range(2))
        objective = VideoVAEObjective.from_folder(further_config(30, latent_weight), shards, CPU, initial=given)
        first, *_, last = records_of(objective, objective.config.loop, tmp_path / str(latent_weight))
        assert first.values.get("latent", 0.0) == pytest.approx(0, abs=1e-10)
        assert last.values["total"] < first.values["total"]
        frames = to_pixels(torch.from_numpy(objective.clips.read(0).frames[None]))
        latents = [VideoCodec(vae).encode(frames) for vae in (before, objective.model)]
        return float((latents[1] - latents[0]).square().mean())

    assert 0 < moved(10.0) < 0.5 * moved(0.0)


def test_latent_weight_without_initial_autoencoder_is_refused(shards: Path):
    with pytest.raises(ConfigError, match="add --init"):
        VideoVAEObjective.from_folder(further_config(1, latent_weight=1.0), shards, CPU)


def test_motion_distance_compares_changes_from_frame_to_frame():
    pixels, weights = torch.rand(1, 3, 3, 16, 16), torch.rand(1, 1, 3, 16, 16)
    assert float(motion_distance(pixels + 0.25, pixels, weights)) == pytest.approx(0, abs=1e-6)
    assert float(motion_distance(pixels[:, :, :1] + 0.25, pixels[:, :, :1], weights[:, :, :1])) == 0
    still = pixels[:, :, :1].expand_as(pixels)
    ramp = torch.tensor([0.0, 0.25, 0.5]).reshape(1, 1, 3, 1, 1)
    assert float(motion_distance(still + ramp, still, weights)) == pytest.approx(0.0625, rel=1e-4)


def test_init_option_needs_a_video_autoencoder_with_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train-codec", "caption", "--init", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "leave --init out" in capsys.readouterr().err
    command = ["train-codec", "video-vae", "--init", str(tmp_path), "--data", str(tmp_path)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "has no folder 'vae'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_distances_of_equal_inputs_are_zero():
    pixels, weights = torch.rand(1, 3, 2, 16, 16), torch.rand(1, 1, 2, 16, 16)
    assert [float(part) for part in reconstruction_distance(pixels, pixels, weights)] == [0.0, 0.0]
    assert float(spectral_distance(pixels.reshape(1, -1), pixels.reshape(1, -1), 64)) == 0.0


def test_reconstruction_distance_of_an_offset_is_the_offset_and_its_square():
    pixels, weights = torch.rand(1, 3, 1, 16, 16), torch.rand(1, 1, 1, 16, 16)
    pixel, square = reconstruction_distance(pixels + 0.25, pixels, weights)
    assert float(pixel) == pytest.approx(0.25, rel=1e-4)
    assert float(square) == pytest.approx(0.0625, rel=1e-4)


def test_region_weights_raise_pixels_of_face_and_mouth(shards: Path):
    pictures = WeightedClips(shards, SIZE, RegionWeights(face=2.0, mouth=6.0))
    clip = pictures.read(1)
    assert clip.frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert clip.weights[0, 0, 0] == 1
    assert clip.weights[0, 7, 9] == 3
    assert clip.weights[0, 20, 16] == 9
    half = WeightedClips(shards, SIZE // 2, RegionWeights()).read(1)
    assert np.abs(half.frames[0].mean() - clip.frames[0].mean()) < 1


def test_mouth_region_lies_inside_the_face():
    face = np.zeros((2, 20, 20), bool)
    face[0, 2:18, 4:16] = True
    region = mouth_region(face)
    assert region[0].any()
    assert not region[1].any()
    assert (face | ~region).all()


def test_waveforms_are_read_from_shards_and_from_files(shards: Path, tmp_path: Path):
    for number in range(3):
        path = tmp_path / f"clip-{number}.wav"
        path.write_bytes(_wav((np.random.default_rng(number).normal(size=14_400) * 2000).astype(np.int16)))
    (tmp_path / "notes.txt").write_text("no sound")
    assert [len(sound) for sound in read_waveforms(tmp_path, 24_000, 240)] == [14_400] * 3
    assert len(read_waveforms(shards, 24_000, 240, skip=1)) == 2
    with pytest.raises(DataError, match="holds no sound"):
        read_waveforms(tmp_path, 24_000, 20_000)


def test_caption_examples_have_texts_and_classes_of_numbers(tmp_path: Path):
    facts = {"caption": "A person.", "gender": "female", "age": 40, "seed": 3, "tall": True, "mood": None}
    with ShardWriter(tmp_path) as writer:
        writer.write("0", {"json": json.dumps(facts).encode()})
        writer.write("1", {"json": json.dumps({"caption": "", "age": "unknown"}).encode()})
        writer.write("2", {"txt": b"No facts."})
    (example,) = read_caption_examples(tmp_path, {"age": (30.0, 60.0), "height": (1.7,)})
    assert (example.caption, example.facts) == ("A person.", {"caption": "A person.", "gender": "female", "age": "1"})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("[1]", "holds a list"),
        ('{"caption": "a"', "is not JSON"),
        ("\xff", "is not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ('{"caption": 5}', "has '5' as its caption, expected a text"),
        ('{"caption": ["a"]}', "as its caption, expected a text"),
        ('{"caption": "\\ud800"}', "as its caption, expected a text"),
        ('{"caption": "a", "age": "old"}', "has 'old' as its age, expected a number"),
        ('{"caption": "a", "age": true}', "has 'True' as its age, expected a number"),
        ('{"caption": "a", "age": NaN}', "is not JSON"),
    ],
)
def test_damaged_caption_sample_is_refused_with_its_name(tmp_path: Path, content: str, sentence: str):
    with ShardWriter(tmp_path) as writer:
        writer.write("good", {"json": b'{"caption": "a"}'})
        writer.write("bad", {"json": content.encode("latin-1")})
    with pytest.raises(DataError, match=re.escape(sentence)) as error:
        read_caption_examples(tmp_path, {"age": (30.0,)})
    assert "'bad.json'" in str(error.value)


def test_fact_bounds_that_fall_are_refused():
    with pytest.raises(ConfigError, match="bounds of 'age' rise"):
        load(CaptionTrainConfig, ["nano/caption"], ["bounds.age=[60,30]"])


def test_synthetic_captions_state_their_facts():
    described = synthetic_caption_examples(40, seed=3)
    assert described == synthetic_caption_examples(40, seed=3)
    for one in described:
        assert one.facts["age"] in one.caption.lower()
        assert one.facts.get("hair_colour", "") in one.caption


@pytest.mark.parametrize(
    ("name", "cls"),
    [("vocoder", VocoderTrainConfig), ("video_vae", VideoVAETrainConfig), ("caption", CaptionTrainConfig)],
)
def test_codec_presets_parse(name: str, cls: type):
    assert load(cls, [f"nano/{name}"], ["loop.steps=7"]).loop.steps == 7
