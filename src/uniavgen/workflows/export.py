"""A trained transformer and its codecs become one model folder."""

import json
from pathlib import Path

import torch
from diffusers.utils import logging

from uniavgen.artifacts import atomic_folder, check_output_folder, path_exists, read_json
from uniavgen.checkpoint.lora import is_adapter
from uniavgen.checkpoint.saved_model import check_component, load_component
from uniavgen.errors import CheckpointError
from uniavgen.inference.resize import ResizeAndCrop, ResizeShortSide
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.workflows.load_codecs import load_codecs


def export_model(
    transformer: Path, codecs: Path, out: Path, dtype: torch.dtype, size: int, sampling: SamplingConfig
) -> None:
    """Writes the model folder `out`, whose earlier content is replaced.

    transformer: folder of a training run, or a saved transformer. codecs: folder of `load_codecs`.
    size: pixels a side of the model's images; 0 keeps the aspect of images. sampling: its default settings.
    Raises CheckpointError where a part is missing and OutputError where the folder cannot be written.
    """
    logging.set_verbosity_error()
    saved = transformer / "transformer" if (transformer / "transformer").is_dir() else transformer
    if is_adapter(saved):
        raise CheckpointError(
            f"{transformer} holds an adapter; use it as --lora, or add it to a model's weights by `uniavgen fuse`"
        )
    if not path_exists(saved / "config.json"):
        raise CheckpointError(f"there is no finished transformer in {transformer}; train it to its last step first")
    check_output_folder(out, (saved, codecs))
    check_component(saved, "transformer")
    loaded = load_codecs(codecs)
    rule = ResizeAndCrop(height=size, width=size) if size else ResizeShortSide()
    pipeline = loaded.build_pipeline(load_component(saved, UniAVGenTransformer.from_pretrained), rule, sampling)
    with atomic_folder(out) as partial:
        pipeline.to(dtype)
        # transformers computes in the precision of the file, diffusers in float32: this keeps the parts alike.
        pipeline.text_encoder.float()
        pipeline.save_pretrained(partial)
        for config in partial.glob("*/config.json"):
            # The path that a part was loaded from does not belong into a model.
            stored = read_json(config, CheckpointError)
            stored.pop("_name_or_path", None)
            config.write_text(json.dumps(stored, indent=2) + "\n")


def folder_megabytes(folder: Path) -> float:
    """Returns the size of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
