"""`uniavgen convert` end to end: what comes out loads, computes the source's numbers, and makes a clip."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from golden import TOLERANCE, folder, golden_set, or_skip, published_shapes, relative_error, weight_file_names
from made_up import (
    DEEP,
    SETTINGS,
    SYMBOLS,
    VAE,
    joint,
    write_codecs,
    write_release,
    write_shards,
    write_vocabulary,
    write_vocoder,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5OmniToken2WavBigVGANModel, UMT5EncoderModel

from uniavgen import UniAVGenPipeline
from uniavgen.apps.cli import main
from uniavgen.checkpoint.codec_keymap import UMT5_ORIGINAL, vae_map
from uniavgen.checkpoint.components import Component, text_encoder_component, vae_component
from uniavgen.checkpoint.conversion import Conversion
from uniavgen.checkpoint.keymap import WAN_ORIGINAL, WAN_SMALL_ORIGINAL, release_map
from uniavgen.checkpoint.weights import DTYPES
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.video_vae import VideoCodec, decode_unclamped
from uniavgen.errors import CheckpointError
from uniavgen.inference.pipeline import CODE, CODE_FILE
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.workflows.load_codecs import load_codecs


def convert(source: Path | str, out: Path, *options: str) -> Path:
    assert main(["convert", str(source), "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A made-up release of twelve layers; its vocabulary is beside it."""
    return write_release(tmp_path_factory.mktemp("release") / "source", joint(DEEP))


@pytest.fixture(scope="module")
def converted(released) -> Path:
    return convert(released, released.parent / "model", "--vocab", str(released.parent / "vocab.txt"))


def test_converted_values_are_those_of_the_source(released, converted) -> None:
    pipeline = UniAVGenPipeline.from_pretrained(converted)
    source = joint(DEEP)
    keymap = release_map(DEEP.interaction.layer_list(DEEP.num_layers))
    ours = pipeline.transformer.state_dict()
    assert pipeline.transformer.settings == DEEP
    assert len(ours) == len(source)
    assert all(torch.equal(ours[keymap.to_target(name)], value.float()) for name, value in source.items())
    for module, file, keymap in (
        (pipeline.vae, "Wan2.2_VAE.pth", vae_map(VAE.blocks_per_level)),
        (pipeline.text_encoder, "models_t5_umt5-xxl-enc-bf16.pth", UMT5_ORIGINAL),
    ):
        state, ours = torch.load(released / file), module.state_dict()
        assert all(torch.equal(ours[keymap.to_target(name)], value) for name, value in state.items())
    assert pipeline.text_encoder.dtype == torch.bfloat16
    vocoder = Qwen2_5OmniToken2WavBigVGANModel.from_pretrained(released / "code2wav_bigvgan_model").state_dict()
    assert all(torch.equal(pipeline.vocoder.state_dict()[name], value) for name, value in vocoder.items())
    tokens = pipeline.tokenizer("a person speaks calmly").input_ids
    assert pipeline.tokenizer.convert_ids_to_tokens(tokens) == ["a", "person", "speaks", "calmly", "</s>"]
    assert pipeline.speech_tokenizer.encode(" !") == [2]
    assert pipeline.speech_tokenizer.encode("a !") == [66, 1, 2]


def test_converted_sampling_settings_are_those_of_the_release(converted) -> None:
    sampling = UniAVGenPipeline.load_config(converted)["sampling_config"]
    assert (sampling["guidance"], sampling["source"]) == (None, "release")
    assert (sampling["steps"], sampling["shift"], sampling["solver"]) == (50, 5.0, "euler")
    assert (sampling["video_guidance"], sampling["audio_guidance"]) == (3.0, 2.0)


def test_converted_model_generates_a_clip(converted, tmp_path, capsys) -> None:
    # At the published 736 px even these widths take minutes on a slow core.
    index = converted / "model_index.json"
    saved = index.read_text()
    index.write_text(json.dumps(json.loads(saved) | {"picture_config": {"kind": "cover", "height": 64, "width": 32}}))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)).save(tmp_path / "face.png")
    argv = ["generate", "--model", str(converted), "--image", str(tmp_path / "face.png"), "--speech", "Hi."]
    argv += ["--caption", "a person speaks", "--steps", "2", "--num-frames", "5", "--out", str(tmp_path / "a.mp4")]
    try:
        assert main(argv) == 0
        assert "guidance release (3 video, 2 audio)" in capsys.readouterr().out
        assert main([*argv[:6], "speech \u4f60", "--out", str(tmp_path / "b.mp4")]) == 2
    finally:
        index.write_text(saved)
    assert "cannot say: '\u4f60'" in capsys.readouterr().err
    assert (tmp_path / "a.mp4").stat().st_size > 1000


def test_converted_model_has_the_file_by_which_diffusers_finds_the_pipeline(converted) -> None:
    assert (converted / CODE_FILE).read_text() == CODE


def test_manifest_names_source_and_versions_and_no_place(released, converted) -> None:
    text = (converted / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["source"]["name"] == "source"
    assert manifest["source"]["files"]["Wan2.2_VAE.pth"] == (released / "Wan2.2_VAE.pth").stat().st_size
    assert len(manifest["source"]["files"]) == 6
    assert {"torch", "diffusers", "transformers"} == manifest["versions"].keys()
    everything = "".join(file.read_text() for file in converted.rglob("*.json"))
    assert str(released.parent) not in everything


@pytest.mark.parametrize("name", or_skip(weight_file_names(), "sets of the joint model"))
def test_converted_golden_weights_give_the_releases_numbers(name, tmp_path) -> None:
    numbers = golden_set(name)
    if numbers.settings.video.latent_channels != VAE.latent_channels:
        pytest.skip(f"latents of {name} are not those of Wan2.2")
    state = load_file(folder() / f"{name}_weights.safetensors")
    source = write_release(tmp_path / "source", state, numbers.config, numbers.settings.video.caption_width)
    symbols = [" ", *(chr(0x4E00 + k) for k in range(numbers.settings.audio.speech.num_symbols - 1))]
    vocab = write_vocabulary(tmp_path / "vocab.txt", symbols)
    pipeline = UniAVGenPipeline.from_pretrained(convert(source, tmp_path / "model", "--vocab", str(vocab)))
    for case in numbers.cases:
        inputs = numbers.case_inputs(case)
        with torch.no_grad():
            converted = pipeline.transformer(
                inputs.video, inputs.audio, inputs.text, inputs.gate, inputs.skip_layers, return_face_masks=True
            )
        expected = numbers.output(case)
        assert relative_error(converted.velocity.video, expected["video"]) < TOLERANCE
        assert relative_error(converted.velocity.audio, expected["audio"]) < TOLERANCE


def written(part: Component, out: Path) -> Path:
    Conversion(files=part.files(10**9)).run(out, lambda _: None)
    return out / part.name


CODECS = sorted(folder().glob("*_codecs.json"))


@pytest.mark.parametrize("described", or_skip(CODECS, "codecs"), ids=lambda path: getattr(path, "stem", path))
def test_converted_golden_codecs_give_the_releases_numbers(described, tmp_path) -> None:
    name, source = described.stem.removesuffix("_codecs"), tmp_path / "source"
    numbers = load_file(folder() / f"{name}_codecs_io.safetensors")
    source.mkdir()
    for part, file in (("umt5", "models_t5_umt5-xxl-enc-bf16.pth"), ("vae", "Wan2.2_VAE.pth")):
        weights = load_file(folder() / f"{name}_{part}_weights.safetensors")
        torch.save({key: value.float() for key, value in weights.items()}, source / file)
    encoder = UMT5EncoderModel.from_pretrained(written(text_encoder_component(source), tmp_path / "a"))
    with torch.no_grad():
        hidden = encoder(input_ids=numbers["umt5.ids"], attention_mask=numbers["umt5.mask"]).last_hidden_state
    inside = numbers["umt5.mask"].bool()
    assert relative_error(hidden[inside], numbers["umt5.hidden"][inside]) < TOLERANCE
    statistics = tuple(numbers["vae.mean"].tolist()), tuple(numbers["vae.std"].tolist())
    codec = VideoCodec(AutoencoderKLWan.from_pretrained(written(vae_component(source, *statistics), tmp_path / "b")))
    assert relative_error(codec.encode(numbers["vae.video"]), numbers["vae.latents"]) < TOLERANCE
    with torch.no_grad():
        decoded = decode_unclamped(codec.vae, codec.denormalise(numbers["vae.latents"]))
    assert relative_error(decoded, numbers["vae.decoded"]) < TOLERANCE


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_changes_transformer_and_text_encoder_only(tmp_path, dtype) -> None:
    source = write_release(tmp_path / "source", joint(dtype=torch.float32))
    out = convert(source, tmp_path / "model", "--vocab", str(tmp_path / "vocab.txt"), "--dtype", dtype)
    states = {file.parent.name: load_file(file) for file in out.rglob("*.safetensors")}
    expected = getattr(torch, dtype)
    assert {value.dtype for value in states["text_encoder"].values()} == {expected}
    assert {value.dtype for part in ("vae", "vocoder") for value in states[part].values()} == {torch.float32}
    for name, value in states["transformer"].items():
        exact = set(name.split(".")) & set(UniAVGenTransformer._keep_in_fp32_modules)
        assert value.dtype == (torch.float32 if exact else expected), name


def write_sparse(folder_: Path, shapes: dict[str, tuple[int, ...]], number: int) -> None:
    """bfloat16 shards of full size that take no room: headers, and nothing behind them."""
    names, listed = sorted(shapes), {}
    for k in range(number):
        file, entries, stop = f"diffusion_pytorch_model-{k + 1:05d}-of-{number:05d}.safetensors", {}, 0
        for name in names[k::number]:
            start, stop = stop, stop + 2 * int(np.prod(shapes[name]))
            entries[name] = {"dtype": "BF16", "shape": list(shapes[name]), "data_offsets": [start, stop]}
            listed[name] = file
        header = json.dumps(entries).encode()
        with (folder_ / file).open("wb") as opened:
            opened.write(len(header).to_bytes(8, "little") + header)
            opened.truncate(8 + len(header) + stop)
    (folder_ / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))


def test_dry_run_places_every_name_of_the_full_size_release(tmp_path, capsys) -> None:
    shapes, source = published_shapes("joint"), tmp_path / "source"
    write_codecs(source)
    write_vocoder(source)
    write_sparse(source, shapes, number=16)
    for part, file, dtype in (
        ("umt5", "models_t5_umt5-xxl-enc-bf16.pth", "BF16"),
        ("vae", "Wan2.2_VAE.pth", "F32"),
    ):
        one = torch.zeros(1, dtype=DTYPES[dtype])
        torch.save({name: one.expand(shape) for name, shape in published_shapes(part).items()}, source / file)
    before = sorted(tmp_path.rglob("*"))
    assert main(["convert", str(source), "--vocab", str(folder() / "release_vocab.txt"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"transformer  2036 tensors, 7056\.\d\dM parameters, 14\.11 GB, bfloat16", printed), printed
    assert re.search(r"text_encoder  242 tensors, 5680\.91M parameters, 11\.36 GB, bfloat16", printed), printed
    assert re.search(r"vae  196 tensors, \d+\.\d\dM parameters, 2\.8\d GB, float32", printed), printed
    assert "every name has its place" in printed
    assert sorted(tmp_path.rglob("*")) == before


def wan_video(layout: str, source: Path) -> dict[str, torch.Tensor]:
    """A Wan model with the sizes of SETTINGS' video branch; returns its values under our names."""
    torch.manual_seed(1)
    video = SETTINGS.video
    wan = WanTransformer3DModel(
        num_attention_heads=video.num_heads,
        attention_head_dim=video.head_dim,
        in_channels=video.latent_channels,
        out_channels=video.latent_channels,
        text_dim=video.caption_width,
        freq_dim=video.time_frequencies,
        ffn_dim=video.ffn_width,
        num_layers=SETTINGS.num_layers,
    )
    if layout == "diffusers":
        wan.save_pretrained(source / "transformer")
    # The stem's names begin with those of the whole; a block's stand below `video`.
    ours = {
        re.sub(r"^video_stem\.blocks\.(\d+)", r"blocks.\1.video", f"video_stem.{name}"): value
        for name, value in wan.state_dict().items()
    }
    if layout == "original":
        write_shards(source, {WAN_ORIGINAL.to_source(name): value for name, value in ours.items()})
        (source / "config.json").write_text(json.dumps({"num_heads": video.num_heads, "text_len": 9}))
        write_codecs(source)
    return ours


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_wan_model_initialises_the_video_branch(tmp_path, layout) -> None:
    values = wan_video(layout, tmp_path / "source")
    out = convert(tmp_path / "source", tmp_path / "start", "--kind", "wan2.2-ti2v-5b", "--shard-mb", "1")
    model = UniAVGenTransformer.from_settings(SETTINGS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_initial_weights(model, out)
    for name, value in model.state_dict().items():
        assert torch.equal(value, values.get(name, before[name])), name
    assert all(".video." in name or name.startswith("video_stem.") for name in values)
    if layout == "original":
        assert load_codecs(out).vae.config.z_dim == 48


def test_small_wan_model_initialises_the_audio_branch(tmp_path) -> None:
    torch.manual_seed(2)
    donor = UniAVGenTransformer.from_settings(SETTINGS)
    wan = {WAN_SMALL_ORIGINAL.to_source(name): value for name, value in donor.state_dict().items()}
    wan.pop(None)
    wan |= {"patch_embedding.weight": torch.ones(8, 16, 1, 2, 2), "head.head.weight": torch.ones(64, 8)}
    write_shards(tmp_path / "source", wan, number=1)
    (tmp_path / "source" / "config.json").write_text(json.dumps({"num_heads": SETTINGS.audio.num_heads}))
    out = convert(tmp_path / "source", tmp_path / "start", "--kind", "wan2.1-t2v-1.3b", "--dtype", "float32")
    torch.manual_seed(3)
    model = UniAVGenTransformer.from_settings(SETTINGS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_initial_weights(model, out)
    taken = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    offered = {name for name in before if WAN_SMALL_ORIGINAL.to_source(name) is not None}
    assert taken <= offered
    assert all(torch.equal(model.state_dict()[name], donor.state_dict()[name]) for name in offered)
    other = UniAVGenTransformer.from_settings(replace(SETTINGS, audio=replace(SETTINGS.audio, ffn_width=19)))
    with pytest.raises(CheckpointError, match=r"do not fit this model: 9 of .* instead of"):
        load_initial_weights(other, out)


def test_codecs_of_a_converted_model_load(converted) -> None:
    parts = load_codecs(converted)
    assert isinstance(parts.vocoder, Qwen2_5OmniToken2WavBigVGANModel)
    assert parts.caption_encoder.width == DEEP.video.caption_width
    assert len(parts.speech_tokenizer.symbols()) == DEEP.audio.speech.num_symbols


def same_files(a: Path, b: Path) -> bool:
    """Returns whether two models have the same bytes but for what the manifest says of their sources."""
    names = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file() and path.name != "manifest.json")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


@pytest.mark.parametrize("prefix", ["", "module.", "model.diffusion_model.", "_orig_mod."])
def test_single_files_and_prefixed_names_convert_to_the_same_model(released, converted, tmp_path, prefix) -> None:
    source = tmp_path / "source"
    shutil.copytree(released, source, ignore=shutil.ignore_patterns("diffusion*", "*.pth"))
    save_file({f"{prefix}{name}": value for name, value in joint(DEEP).items()}, source / "any_name.safetensors")
    for file, name in (("Wan2.2_VAE.pth", "wan2.2_vae"), ("models_t5_umt5-xxl-enc-bf16.pth", "umt5_xxl_bf16")):
        state = {f"{prefix}{key}": value.clone() for key, value in torch.load(released / file).items()}
        save_file(state, source / f"{name}.safetensors")
    vocab = ("--vocab", str(released.parent / "vocab.txt"))
    assert same_files(converted, convert(source, tmp_path / "folder", *vocab))
    if not prefix:
        assert same_files(converted, convert(source / "any_name.safetensors", tmp_path / "file", *vocab))


def test_codecs_in_the_layouts_of_transformers_and_diffusers_convert_to_the_same_model(
    released, converted, tmp_path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(released, source, ignore=shutil.ignore_patterns("*.pth"))
    pipeline = UniAVGenPipeline.from_pretrained(converted)
    pipeline.vae.save_pretrained(source / "vae")
    pipeline.text_encoder.save_pretrained(source / "text_encoder", max_shard_size="1KB")
    assert (source / "text_encoder" / "model.safetensors.index.json").is_file()
    assert same_files(converted, convert(source, tmp_path / "model", "--vocab", str(released.parent / "vocab.txt")))


def test_vocabulary_may_begin_with_a_byte_order_mark(released, tmp_path) -> None:
    text = (released.parent / "vocab.txt").read_bytes()
    for content in (text, b"\xef\xbb\xbf" + text, text.replace(b"\r\n", b"\n"), text.removesuffix(b"\r\n")):
        (tmp_path / "vocab.txt").write_bytes(content)
        assert SpeechSymbols.from_vocabulary(tmp_path / "vocab.txt").symbols() == SYMBOLS


def test_adapter_as_a_source_or_a_model_is_an_error(released, tmp_path, capsys) -> None:
    file = tmp_path / "adapter" / "pytorch_lora_weights.safetensors"
    file.parent.mkdir()
    save_file({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 2)}, file)
    vocab, out = str(released.parent / "vocab.txt"), str(tmp_path / "out")
    for argv in (
        ["convert", str(file), "--vocab", vocab, "--out", out],
        ["convert", str(file.parent), "--vocab", vocab, "--out", out],
        ["plan", "--model", str(file), "--vram", "24"],
        ["plan", "--model", str(file.parent), "--vram", "24"],
    ):
        assert main(argv) == 2
        assert "is a LoRA adapter and no model" in capsys.readouterr().err, argv
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_initial_weights_are_read_whatever_their_config_says(tmp_path) -> None:
    model = UniAVGenTransformer.from_settings(SETTINGS)
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text("{}")
    other = UniAVGenTransformer.from_settings(SETTINGS)
    load_initial_weights(other, tmp_path / "saved")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    (tmp_path / "saved" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks a saved transformer"):
        load_initial_weights(other, tmp_path / "saved")
