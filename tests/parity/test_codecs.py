"""Caption encoder and video autoencoder equal the authors' classes, in float32, through the key maps."""

import json
from pathlib import Path

import pytest
import torch
from golden import TOLERANCE, folder, or_skip, relative_error
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from uniavgen.checkpoint.codec_keymap import UMT5_ORIGINAL, vae_map
from uniavgen.checkpoint.keymap import KeyMap
from uniavgen.checkpoint.sizes import umt5_config, vae_shape
from uniavgen.codecs.video_vae import VideoCodec, decode_unclamped


def sets_with(part: str) -> list[str]:
    """Names of the sets (NAME_codecs.json) with that part."""
    files = sorted(folder().glob("*_codecs.json"))
    return [file.stem.removesuffix("_codecs") for file in files if part in json.loads(file.read_text())]


def read(name: str, part: str) -> tuple[dict, dict[str, Tensor], Path]:
    """Configuration and numbers of a part, and where its weights are."""
    numbers = load_file(folder() / f"{name}_codecs_io.safetensors")
    config = json.loads((folder() / f"{name}_codecs.json").read_text())[part]
    expected = {key.removeprefix(f"{part}."): value for key, value in numbers.items() if key.startswith(f"{part}.")}
    return config, expected, folder() / f"{name}_{part}_weights.safetensors"


def fill(module: nn.Module, weights: dict[str, Tensor], keymap: KeyMap) -> None:
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    places = keymap.match({name: tuple(value.shape) for name, value in weights.items()}, ours)
    tied = {name: weights["token_embedding.weight"].float() for name in keymap.tied if name in ours}
    module.load_state_dict({name: weights[source].float() for name, source in places.items()} | tied)


@pytest.mark.parametrize("name", or_skip(sets_with("umt5"), "sets of umT5"))
def test_umt5_equals_the_recorded_features(name: str) -> None:
    config, numbers, path = read(name, "umt5")
    weights = load_file(path)
    model = UMT5EncoderModel(umt5_config({key: tuple(value.shape) for key, value in weights.items()})).eval()
    assert model.config.num_heads == config["num_heads"]
    fill(model, weights, UMT5_ORIGINAL)
    with torch.no_grad():
        hidden = model(input_ids=numbers["ids"], attention_mask=numbers["mask"]).last_hidden_state
    inside = numbers["mask"].bool()
    assert relative_error(hidden[inside], numbers["hidden"][inside]) < TOLERANCE


@pytest.mark.parametrize("name", or_skip(sets_with("vae"), "sets of the video autoencoder"))
def test_video_autoencoder_equals_the_recorded_values(name: str) -> None:
    config, numbers, path = read(name, "vae")
    weights = load_file(path)
    shape = vae_shape({key: tuple(value.shape) for key, value in weights.items()})
    assert (shape.width, shape.latent_channels) == (config["dim"], config["z_dim"])
    vae = shape.build().eval()
    fill(vae, weights, vae_map(shape.blocks_per_level))
    vae.register_to_config(latents_mean=numbers["mean"].tolist(), latents_std=numbers["std"].tolist())
    codec = VideoCodec(vae)
    assert relative_error(codec.encode(numbers["video"]), numbers["latents"]) < TOLERANCE
    # Diffusers clips to [-1, 1] what the authors' class returns as it is.
    with torch.no_grad():
        unclipped = decode_unclamped(vae, codec.denormalise(numbers["latents"]))
    assert relative_error(unclipped, numbers["decoded"]) < TOLERANCE
    assert torch.equal(codec.decode(numbers["latents"]), unclipped.clamp(-1, 1))
