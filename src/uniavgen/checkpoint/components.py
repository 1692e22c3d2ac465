"""Components of a model as a converter builds them: an empty module and where its values lie."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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

from uniavgen.artifacts import first_line, read_json
from uniavgen.checkpoint.codec_keymap import VOCODER, umt5_layout, vae_layout
from uniavgen.checkpoint.conversion import ConvertedTensor, OutputFile, json_file, weight_files
from uniavgen.checkpoint.keymap import KeyMap, Shape
from uniavgen.checkpoint.saved_model import check_component
from uniavgen.checkpoint.sizes import umt5_config, vae_shape
from uniavgen.checkpoint.weights import Weights, find_weights
from uniavgen.codecs.tokenizer_file import TokenizerFile
from uniavgen.errors import CheckpointError

UMT5_FILE: Final = "models_t5_umt5-xxl-enc-bf16.pth"
VAE_FILE: Final = "Wan2.2_VAE.pth"
TOKENIZER_FOLDER: Final = "google/umt5-xxl"
VOCODER_FOLDER: Final = "code2wav_bigvgan_model"
CODEC_NAMES: Final = "(?i)t5|vae|vocoder|bigvgan|tokenizer"
"""Regular expression of file names that are not those of a transformer."""

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
    settings: tuple[OutputFile, ...]
    tensors: tuple[ConvertedTensor, ...] = ()
    stem: str = "diffusion_pytorch_model"
    """File name of its weights, without ending."""

    @property
    def num_bytes(self) -> int:
        return sum(tensor.num_bytes for tensor in self.tensors) + sum(file.num_bytes for file in self.settings)

    def files(self, shard_bytes: int) -> list[OutputFile]:
        """Returns everything in its folder."""
        weights = weight_files(self.name, self.stem, self.tensors, shard_bytes) if self.tensors else []
        return [*self.settings, *weights]


def shapes_of(weights: Weights) -> dict[str, Shape]:
    """Returns name to shape."""
    return {name: tensor.shape for name, tensor in weights.items()}


def parameter_shapes(module: nn.Module) -> dict[str, Shape]:
    """Returns name to shape of everything that a module's weights must give."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def match_tensors(
    weights: Weights, keymap: KeyMap, module: nn.Module, dtype: torch.dtype | None = None
) -> tuple[ConvertedTensor, ...]:
    """Returns every parameter with its place in `weights`, in `dtype` or as stored. Raises CheckpointError.

    What the model computes in float32 whatever the rest does (`is_kept_in_float32`) is not narrowed.
    """
    from uniavgen.models.diffusers_compat import is_kept_in_float32
    from uniavgen.models.transformer import UniAVGenTransformer

    tensors = []
    for name, published in keymap.match(shapes_of(weights), parameter_shapes(module)).items():
        stored = weights[published]
        is_unchanged = dtype is None or is_kept_in_float32(UniAVGenTransformer, name)
        tensors.append(ConvertedTensor(name=name, source=stored, dtype=stored.dtype if is_unchanged else dtype))
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def text_encoder_component(folder: Path, dtype: torch.dtype | None = None) -> Component:
    """Returns Wan's umT5 as transformers' `UMT5EncoderModel`. Raises CheckpointError."""
    weights = find_weights(
        folder, "the caption encoder", UMT5_FILE, ("text_encoder/*model", "*[tT]5*", "*[tT]5*/*"), "(?i)lora"
    )
    with _building(folder, "umT5"):
        module = UMT5EncoderModel(umt5_config(shapes_of(weights)))
    tensors = match_tensors(weights, umt5_layout(weights), module, dtype)
    config = transformers_config("text_encoder", module, tensors)
    return Component(name="text_encoder", module=module, settings=(config,), tensors=tensors, stem="model")


def vae_component(
    folder: Path, mean: tuple[float, ...] = WAN_LATENT_MEAN, std: tuple[float, ...] = WAN_LATENT_STD
) -> Component:
    """Returns Wan2.2's VAE as diffusers' `AutoencoderKLWan`, with the statistics of its latents.

    Raises CheckpointError.
    """
    weights = find_weights(
        folder, "the video autoencoder", VAE_FILE, ("vae/diffusion_pytorch_model", "*[vV][aA][eE]*", "*[vV][aA][eE]*/*")
    )
    shapes = shapes_of(weights)
    shape = vae_shape(shapes)
    if shape.latent_channels != len(mean):
        raise CheckpointError(
            f"the video autoencoder in {folder} has {shape.latent_channels} latent channels, Wan2.2's has {len(mean)}; "
            "mean and deviation of other latents are not known"
        )
    with _building(folder, "Wan2.2's autoencoder"):
        module = shape.build()
    module.register_to_config(latents_mean=list(mean), latents_std=list(std))
    tensors = match_tensors(weights, vae_layout(weights), module)
    return Component(name="vae", module=module, settings=(diffusers_config("vae", module),), tensors=tensors)


def vocoder_component(folder: Path) -> Component:
    """Returns the release's BigVGAN, which is transformers' own already. Raises CheckpointError."""
    source = folder / VOCODER_FOLDER
    if not (source / "config.json").exists():
        raise CheckpointError(f"{folder} lacks the vocoder: expected {VOCODER_FOLDER}/config.json; download it again")
    settings = read_json(source / "config.json", CheckpointError, "download it again")
    with _building(source / "config.json", "BigVGAN"):
        module = Qwen2_5OmniToken2WavBigVGANModel(Qwen2_5OmniBigVGANConfig.from_dict(settings))
    weights = find_weights(source, "the vocoder", "model.safetensors", ("pytorch_model",))
    tensors = match_tensors(weights, VOCODER, module)
    config = transformers_config("vocoder", module, tensors)
    return Component(name="vocoder", module=module, settings=(config,), tensors=tensors, stem="model")


def tokenizer_component(folder: Path, vocabulary: int) -> Component:
    """Returns umT5's tokenizer, whose ids must lie in an embedding of `vocabulary` rows. Raises CheckpointError."""
    source = next((folder / name for name in (TOKENIZER_FOLDER, "tokenizer") if (folder / name).is_dir()), folder)
    if not any((source / name).exists() for name in ("tokenizer.json", "spiece.model")):
        raise CheckpointError(
            f"{folder} lacks the tokenizer of captions: expected {TOKENIZER_FOLDER} with tokenizer.json; download it"
        )
    check_component(source, "tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        # Bare: the parser in Rust, and settings of other types, raise nothing narrower.
        raise CheckpointError(
            f"the tokenizer in {source} is damaged ({first_line(error)}); download it again"
        ) from error
    if len(tokenizer) > vocabulary:
        raise CheckpointError(
            f"the tokenizer in {source} has {len(tokenizer)} tokens, the caption encoder knows {vocabulary}; "
            "take both from one model"
        )
    return Component(name="tokenizer", module=tokenizer, settings=saved_tokenizer("tokenizer", tokenizer))


def saved_tokenizer(name: str, tokenizer: TokenizerFile | PreTrainedTokenizerBase) -> tuple[OutputFile, ...]:
    """Returns the files that a tokenizer saves, in a folder of the output."""
    with TemporaryDirectory() as place:
        tokenizer.save_pretrained(place)
        files = sorted(file for file in Path(place).iterdir() if file.is_file())
        return tuple(OutputFile(f"{name}/{file.name}", file.read_bytes()) for file in files)


def diffusers_config(name: str, module: Any) -> OutputFile:
    """Returns `config.json` of a module with diffusers' mixins, in a folder of the output."""
    return json_file(f"{name}/config.json", json.loads(module.to_json_string()))


def transformers_config(name: str, module: Any, tensors: Iterable[ConvertedTensor]) -> OutputFile:
    """Returns `config.json` of a transformers model, which computes in the type that the file names."""
    module.config.dtype = next(tensor.dtype for tensor in tensors)
    module.config.architectures = [type(module).__name__]
    return OutputFile(f"{name}/config.json", module.config.to_json_string().encode())


@contextmanager
def _building(source: Path, title: str) -> Iterator[None]:
    """Builds on the meta device; raises CheckpointError for what constructors say of sizes that cannot be."""
    try:
        with torch.device("meta"):
            yield
    except (TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError, StrictDataclassError) as error:
        raise CheckpointError(f"{source} describes no {title} ({first_line(error)}); download it again") from error
