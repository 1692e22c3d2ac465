"""A trained transformer and its codecs become one model folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.utils import logging
from torch import Tensor

from uniavgen.artifacts import atomic_folder, check_output_folder, path_exists, read_json
from uniavgen.checkpoint.keymap import Shape
from uniavgen.checkpoint.lora import is_adapter, is_lora_parameter
from uniavgen.checkpoint.saved_model import check_component, saved_settings
from uniavgen.checkpoint.weight_shards import SHARD_BYTES, TRANSFORMER_STEM, write_weight_shards
from uniavgen.checkpoint.weights import check_finite, find_weights, read_tensors
from uniavgen.codecs.tokenizer_file import COPY_AGAIN
from uniavgen.config import parse
from uniavgen.errors import CheckpointError
from uniavgen.inference.resize import ResizeAndCrop, ResizeShortSide
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.checkpoint_files import checkpoints, is_checkpoint
from uniavgen.training.sharding import empty_model
from uniavgen.training.stored_weights import StoredWeights
from uniavgen.workflows.load_codecs import load_codecs


@dataclass(frozen=True, kw_only=True)
class TransformerSource:
    """A transformer on disk, whose values are read when they are written."""

    folder: Path
    settings: TransformerConfig
    shapes: Mapping[str, Shape]
    read: Callable[[Sequence[str]], Mapping[str, Tensor]]
    """Returns the values of some names."""

    @classmethod
    def saved(cls, folder: Path) -> "TransformerSource":
        """Opens a saved transformer. Raises CheckpointError where it is damaged."""
        config = folder / "config.json"
        if not config.is_file() or not any(folder.glob(f"{TRANSFORMER_STEM}.*")):
            raise CheckpointError(
                f"{folder} cannot be loaded: it lacks config.json or {TRANSFORMER_STEM}.safetensors; {COPY_AGAIN}"
            )
        check_component(folder, "transformer")
        weights = find_weights(folder, "a saved transformer", f"{TRANSFORMER_STEM}.safetensors")
        return cls(
            folder=folder,
            settings=saved_settings(read_json(config, CheckpointError), config),
            shapes={name: stored.shape for name, stored in weights.items()},
            read=lambda names: read_tensors({name: weights[name] for name in names}),
        )

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "TransformerSource":
        """Opens the averaged weights of a run's checkpoint, or its weights. Raises CheckpointError for damaged ones."""
        weights = StoredWeights.open(checkpoint)
        settings = weights.record.settings.get("transformer")
        if not isinstance(settings, dict):
            raise CheckpointError(f"{checkpoint} holds no transformer; give a run of `uniavgen train`")
        if any(is_lora_parameter(name) for name in weights.tensors):
            raise CheckpointError(f"{checkpoint} holds an adapter; train it to its last step and use it as --lora")
        return cls(
            folder=checkpoint,
            settings=parse(TransformerConfig, settings, origin=str(checkpoint)),
            shapes={name: tuple(stored.size) for name, stored in weights.tensors.items()},
            read=weights.read,
        )

    def meta_model(self) -> UniAVGenTransformer:
        """Returns the model without values. Raises CheckpointError where its weights are others than the stored."""
        model = empty_model(self.settings, {})
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        missing = [name for name in expected if name not in self.shapes]
        unknown = sorted({*self.shapes} - {*expected})
        resized = [name for name, shape in expected.items() if self.shapes.get(name, shape) != shape]
        if missing or unknown or resized:
            wrong = f"{len(missing)} are missing, {len(unknown)} are unknown, {len(resized)} have another size"
            raise CheckpointError(
                f"the weights in {self.folder} do not fit their settings: {wrong}, first "
                f"{[*missing, *unknown, *resized][0]}; {COPY_AGAIN}"
            )
        return model

    def write(self, model: UniAVGenTransformer, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        """Writes a folder as `save_pretrained` does, in the types of `model`, which has no values."""
        model.save_config(folder)
        tensors = {name: (tuple(value.shape), value.dtype) for name, value in model.state_dict().items()}

        def read(names: Sequence[str]) -> Mapping[str, Tensor]:
            values = self.read(names)
            check_finite(values.items(), self.folder)
            return values

        write_weight_shards(folder, TRANSFORMER_STEM, tensors, read, shard_bytes)


def find_transformer(folder: Path) -> TransformerSource:
    """Opens a checkpoint, a saved transformer, or what a run has: its finished transformer, else its last checkpoint.

    Raises CheckpointError where there is none, or where it is damaged.
    """
    if is_checkpoint(folder):
        return TransformerSource.of_checkpoint(folder)
    saved = folder / "transformer" if (folder / "transformer").is_dir() else folder
    if is_adapter(saved):
        raise CheckpointError(
            f"{folder} holds an adapter; use it as --lora, or add it to a model's weights by `uniavgen fuse`"
        )
    if path_exists(saved / "config.json"):
        return TransformerSource.saved(saved)
    unfinished = checkpoints(folder / "checkpoints")
    if not unfinished:
        raise CheckpointError(f"there is no finished transformer in {folder}, and no checkpoint; train one first")
    return TransformerSource.of_checkpoint(unfinished[-1])


def export_model(
    transformer: Path,
    codecs: Path,
    out: Path,
    dtype: torch.dtype,
    size: int,
    sampling: SamplingConfig,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes the model folder `out`, whose earlier content is replaced. The transformer is never whole in memory.

    transformer: folder of a training run, a checkpoint, or a saved transformer. codecs: folder of `load_codecs`.
    size: pixels a side of the model's images; 0 keeps the aspect of images. sampling: its default settings.
    shard_bytes: most bytes of a file of the transformer.
    Raises CheckpointError where a part is missing and OutputError where the folder cannot be written.
    """
    logging.set_verbosity_error()
    source = find_transformer(transformer)
    check_output_folder(out, (source.folder, codecs))
    model = source.meta_model()
    rule = ResizeAndCrop(height=size, width=size) if size else ResizeShortSide()
    pipeline = load_codecs(codecs).build_pipeline(model, rule, sampling)

    def save_streamed(folder: str, **_: object) -> None:
        source.write(model, Path(folder), shard_bytes)

    with atomic_folder(out) as partial:
        pipeline.to(dtype)
        # transformers computes in the precision of the file, diffusers in float32: this keeps the parts alike.
        pipeline.text_encoder.float()
        # The pipeline saves its parts by this method; the model has only shapes and types.
        model.__dict__["save_pretrained"] = save_streamed
        pipeline.save_pretrained(partial)
        for config in partial.glob("*/config.json"):
            # The path that a part was loaded from does not belong into a model.
            stored = read_json(config, CheckpointError)
            stored.pop("_name_or_path", None)
            config.write_text(json.dumps(stored, indent=2) + "\n")


def folder_megabytes(folder: Path) -> float:
    """Returns the size of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
