"""A model and adapters become one model folder, whose clips are those of the model with the adapters."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from uniavgen.artifacts import atomic_folder, check_output_folder
from uniavgen.checkpoint.lora_fusing import fuse_lora
from uniavgen.checkpoint.weights import check_finite, read_file, read_metadata, read_tensors
from uniavgen.errors import ConfigError, OutputError
from uniavgen.workflows.load import ModelLoader, Report
from uniavgen.workflows.load_config import LoadConfig

RECORD = "lora.json"
"""Says which adapters are in a fused model."""


def fuse(model: str, lora: Sequence[str], out: Path, report: Report = lambda _: None) -> None:
    """Writes the model folder `out`, whose earlier content is replaced: `model` with the adapters in its weights.

    Weights keep their precision and their files, of which one at a time is in memory; nothing of `model` is changed.
    lora: FILE or FILE:scale. report: takes one line about each adapter.
    Raises CheckpointError where model or adapters are damaged or do not fit, ConfigError for scales, and OutputError.
    """
    if not lora:
        raise ConfigError("there is no adapter to fuse; give at least one as --lora FILE or --lora FILE:0.8")
    loader = ModelLoader(LoadConfig(model=model, lora=lora, device="cpu"), report)
    folder, fitted = loader.folder, loader.lora
    check_output_folder(out, (folder, *(each.file.file for each in fitted)))
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
        raise OutputError(f"the output {out} lies in the model {folder}, which is not changed; choose another place")
    with atomic_folder(out) as partial:
        weights = sorted((folder / "transformer").glob("*.safetensors"))
        skipped = {file.name for file in weights}
        for source in sorted(folder.iterdir()):
            ignore = shutil.ignore_patterns(*skipped) if source.name == "transformer" else None
            if source.is_dir():
                shutil.copytree(source, partial / source.name, ignore=ignore)
            else:
                shutil.copyfile(source, partial / source.name)
        for file in weights:
            # Mapped from the file they lie in, so they are copied before they are changed.
            values = {name: value.clone() for name, value in read_tensors(read_file(file)).items()}
            check_finite(values.items(), file)
            fuse_lora(values.items(), fitted)
            save_file(values, partial / "transformer" / file.name, metadata=read_metadata(file))
        record = {"model": loader.name, "lora": [each.file.settings for each in fitted]}
        (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
