"""Parts of a model as a converter makes them: an empty module that says what it needs, and where its values lie."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Qwen2_5OmniToken2WavBigVGANModel,
    UMT5EncoderModel,
)
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniBigVGANConfig

from uniavgen.artifacts import first_line
from uniavgen.checkpoint.codec_keymap import UMT5_ORIGINAL, vae_map
from uniavgen.checkpoint.files import ConvertedTensor, OutputFile, TextFile, json_file, weight_files
from uniavgen.checkpoint.keymap import KeyMap, KeyRule, Shape
from uniavgen.checkpoint.sizes import umt5_config, vae_shape
from uniavgen.checkpoint.stores import StoredWeights, find_weights, read_json, read_pickled
from uniavgen.errors import CheckpointError

UMT5_FILE: Final = "models_t5_umt5-xxl-enc-bf16.pth"
VAE_FILE: Final = "Wan2.2_VAE.pth"
TOKENIZER_FOLDER: Final = "google/umt5-xxl"
VOCODER_FOLDER: Final = "code2wav_bigvgan_model"

# Mean and deviation of every latent channel of Wan2.2's VAE; they are not in its file. [Wan2.2]
# fmt: off
WAN_LATENT_MEAN: Final = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
WAN_LATENT_STD: Final = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Component:
    """One folder of the output."""

    name: str
    """Folder, and component of the pipeline; empty where the files lie at the top."""
    module: Any
    """A module on the meta device, or a tokenizer."""
    settings: tuple[TextFile, ...]
    tensors: tuple[ConvertedTensor, ...] = ()
    stem: str = "diffusion_pytorch_model"
    """What its files of weights are called."""

    @property
    def num_bytes(self) -> int:
        return sum(tensor.num_bytes for tensor in self.tensors) + sum(file.num_bytes for file in self.settings)

    def files(self, shard_bytes: int) -> list[OutputFile]:
        """Everything in its folder."""
        weights = weight_files(self.name, self.stem, self.tensors, shard_bytes) if self.tensors else []
        return [*self.settings, *weights]


def parameter_shapes(module: nn.Module) -> dict[str, Shape]:
    """Name to shape of everything that a module's weights must give."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def match_tensors(
    weights: StoredWeights, keymap: KeyMap, ours: Mapping[str, Shape], dtype: torch.dtype | None = None
) -> tuple[ConvertedTensor, ...]:
    """Every parameter with its place in `weights`, in `dtype` or as stored; see `KeyMap.place` for what it refuses.

    What the model computes in float32 whatever the rest does (`is_kept_in_float32`) is not narrowed.
    """
    from uniavgen.models.diffusers_compat import is_kept_in_float32
    from uniavgen.models.transformer import UniAVGenTransformer

    placed = []
    for name, theirs in keymap.match(weights.shapes, ours).items():
        kept = dtype is None or is_kept_in_float32(UniAVGenTransformer, name)
        stored = weights.tensors[theirs]
        placed.append(
            ConvertedTensor(
                name=name,
                shape=stored.shape,
                dtype=stored.dtype if kept else dtype,
                weights=weights,
                source_name=theirs,
            )
        )
    return tuple(sorted(placed, key=lambda tensor: tensor.name))


def text_encoder_component(folder: Path, dtype: torch.dtype | None = None) -> Component:
    """Wan's umT5 as transformers' `UMT5EncoderModel`. Raises CheckpointError."""
    weights = read_pickled(folder / UMT5_FILE, "the caption encoder")
    config = umt5_config(weights.shapes)
    with torch.device("meta"):
        module = UMT5EncoderModel(config)
    tensors = match_tensors(weights, UMT5_ORIGINAL, parameter_shapes(module), dtype)
    # transformers computes in this type.
    module.config.dtype = next(tensor.dtype for tensor in tensors if tensor.name == "shared.weight")
    module.config.architectures = [type(module).__name__]
    config_file = TextFile("text_encoder/config.json", module.config.to_json_string().encode())
    return Component(name="text_encoder", module=module, settings=(config_file,), tensors=tensors, stem="model")


def vae_component(
    folder: Path, mean: tuple[float, ...] = WAN_LATENT_MEAN, std: tuple[float, ...] = WAN_LATENT_STD
) -> Component:
    """Wan2.2's VAE as diffusers' `AutoencoderKLWan`, with the statistics of its latents. Raises CheckpointError."""
    weights = read_pickled(folder / VAE_FILE, "the video autoencoder")
    shape = vae_shape(weights.shapes)
    if shape.latent_channels != len(mean):
        raise CheckpointError(
            f"{folder / VAE_FILE} has {shape.latent_channels} latent channels, Wan2.2's has {len(mean)}; mean and "
            "deviation of other latents are not known"
        )
    try:
        with torch.device("meta"):
            module = shape.build()
    except ValueError as error:
        raise CheckpointError(f"{folder / VAE_FILE} is not Wan2.2's autoencoder ({error}); download it again") from None
    module.register_to_config(latents_mean=list(mean), latents_std=list(std))
    tensors = match_tensors(weights, vae_map(shape.blocks_per_level), parameter_shapes(module))
    return Component(name="vae", module=module, settings=(diffusers_config("vae", module),), tensors=tensors)


def vocoder_component(folder: Path) -> Component:
    """The release's BigVGAN, which is transformers' own already. Raises CheckpointError."""
    source = folder / VOCODER_FOLDER
    settings = read_json(source / "config.json")
    if not settings:
        raise CheckpointError(f"{folder} lacks the vocoder: expected {VOCODER_FOLDER}/config.json; download it again")
    try:
        config = Qwen2_5OmniBigVGANConfig.from_dict(settings)
        with torch.device("meta"):
            module = Qwen2_5OmniToken2WavBigVGANModel(config)
    except (TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError, StrictDataclassError) as error:
        detail = first_line(error)
        raise CheckpointError(f"{source / 'config.json'} describes no BigVGAN ({detail}); download it again") from None
    if (source / "pytorch_model.bin").is_file():
        weights = read_pickled(source / "pytorch_model.bin", "the vocoder")
    else:
        weights = find_weights(source, "model", "the vocoder")
    tensors = match_tensors(
        weights, KeyMap("the release's vocoder", (KeyRule("{rest}", "{rest}"),)), parameter_shapes(module)
    )
    module.config.dtype = tensors[0].dtype
    module.config.architectures = [type(module).__name__]
    config_file = TextFile("vocoder/config.json", module.config.to_json_string().encode())
    return Component(name="vocoder", module=module, settings=(config_file,), tensors=tensors, stem="model")


def tokenizer_component(folder: Path, vocabulary: int) -> Component:
    """umT5's tokenizer, whose ids must lie in an embedding of `vocabulary` rows. Raises CheckpointError."""
    source = folder / TOKENIZER_FOLDER
    if not any((source / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise CheckpointError(
            f"{folder} lacks the tokenizer of captions: expected {TOKENIZER_FOLDER} with tokenizer.json; download it"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        # Bare: the parser in Rust raises nothing narrower for a damaged file.
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"the tokenizer in {source} is damaged ({detail}); download it again") from None
    if len(tokenizer) > vocabulary:
        raise CheckpointError(
            f"the tokenizer in {source} has {len(tokenizer)} tokens, the caption encoder knows {vocabulary}; "
            "take both from one model"
        )
    return Component(name="tokenizer", module=tokenizer, settings=saved_tokenizer("tokenizer", tokenizer))


def saved_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase) -> tuple[TextFile, ...]:
    """The files that a tokenizer saves, in a folder of the output."""
    with TemporaryDirectory() as place_:
        tokenizer.save_pretrained(place_)
        return tuple(
            TextFile(f"{name}/{file.name}", file.read_bytes())
            for file in sorted(Path(place_).iterdir())
            if file.is_file()
        )


def diffusers_config(name: str, module: Any) -> TextFile:
    """`config.json` of a module with diffusers' mixins, in a folder of the output."""
    return json_file(f"{name}/config.json", json.loads(module.to_json_string()))
