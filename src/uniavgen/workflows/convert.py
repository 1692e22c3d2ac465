"""Converts published weights to a model folder: finds the source, matches every tensor, lists the files to write."""

import json
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

import uniavgen
from uniavgen.artifacts import is_hub_name, path_exists
from uniavgen.checkpoint.components import Component
from uniavgen.checkpoint.conversion import Conversion, OutputFile, check_output, json_file
from uniavgen.checkpoint.hub import fetch
from uniavgen.checkpoint.published import KINDS, release_components, wan_components
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.config import dump
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.flow.choices import PAPER_GUIDANCE
from uniavgen.flow.guidance import RELEASE_SKIP_LAYERS
from uniavgen.inference.pipeline import CODE, CODE_FILE, UniAVGenPipeline
from uniavgen.inference.resize import ResizeShortSide
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.timebase import Source


def check_conversion(source: str, out: Path | None, kind: str, vocab: Path | None) -> None:
    """Checks what can be checked before anything is read or downloaded.

    Raises ConfigError, CheckpointError and OutputError.
    """
    if kind == "release" and vocab is None:
        raise ConfigError(
            "the release needs --vocab with its vocab.txt, which lies in the authors' code repository, not beside the "
            "weights"
        )
    if kind != "release" and vocab is not None:
        raise ConfigError(f"--vocab belongs to the release, {kind} has no speech; leave it out")
    if out is None:
        return
    check_output(out)
    # Not `resolve`, which raises for links in a circle.
    if path_exists(Path(source)) and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(source)):
        raise CheckpointError(f"the output {out} would lie inside the source {source}; choose another --out")


def find_source(source: str, kind: str, revision: str | None, offline: bool, on_retry: Callable[[str], None]) -> Path:
    """Returns the folder or file of the published weights, downloaded where `source` is a name on the hub."""
    folder = Path(source)
    if path_exists(folder):
        if revision is not None:
            raise ConfigError(f"{source} is on this machine and has no --revision; leave it out")
        return folder
    if not is_hub_name(source):
        raise CheckpointError(
            f"there is no folder or file {source}; give a folder, a file of weights, or a hub name such as OWNER/NAME"
        )
    return fetch(source, KINDS[kind].needed, revision, offline, on_retry)


def match_components(source: Path, kind: str, symbols: SpeechSymbols | None, dtype: str | None) -> list[Component]:
    """Matches every published tensor with a parameter of ours; only headers are read. Raises CheckpointError."""
    target: torch.dtype | None = None if dtype is None else getattr(torch, dtype)
    if symbols is None:
        return wan_components(source, kind, target)
    return release_components(source, symbols, target)


def plan_conversion(
    components: Sequence[Component], source: str, location: Path, kind: str, dtype: str | None, shard_bytes: int
) -> Conversion:
    """Returns the files of the output and the facts of their manifest: sources, versions."""
    is_local, folder = path_exists(Path(source)), location if location.is_dir() else location.parent
    files: list[OutputFile] = [file for component in components for file in component.files(shard_bytes)]
    if KINDS[kind].is_model:
        files += [_build_model_index(components), OutputFile(CODE_FILE, CODE.encode())]
    sources = sorted({tensor.source.file for component in components for tensor in component.tensors})
    facts = {
        "made_by": f"uniavgen {uniavgen.__version__}",
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "kind": kind,
        "source": {
            "name": location.resolve().name if is_local else source,
            "commit": None if is_local else location.name,
            "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in sources},
        },
        "dtype": dtype or "as in the source",
    }
    return Conversion(files=files, facts=facts)


def _build_model_index(components: Sequence[Component]) -> OutputFile:
    """Returns the file that `from_pretrained` reads first; the pipeline itself checks that its parts fit together."""
    modules = {component.name: component.module for component in components}
    # The block that the release skips is one of thirty; a smaller model has none to spare.
    has_block = modules["transformer"].settings.num_layers > max(RELEASE_SKIP_LAYERS)
    sampling = SamplingConfig(guidance=None if has_block else PAPER_GUIDANCE, source=Source.RELEASE)
    pipeline = UniAVGenPipeline(**modules, picture_config=dump(ResizeShortSide()), sampling_config=dump(sampling))
    return json_file("model_index.json", json.loads(pipeline.to_json_string()))
