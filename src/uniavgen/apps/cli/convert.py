"""`uniavgen convert`: published weights to a model folder that every other command takes as --model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from uniavgen.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uniavgen.checkpoint.conversion import Conversion
    from uniavgen.checkpoint.files import OutputFile
    from uniavgen.checkpoint.parts import Component
    from uniavgen.codecs.speech_symbols import SpeechSymbols

_INTERRUPTED = 130


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Folder, or a name on the Hugging Face hub.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to make.")] = None,
    vocab: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The release's vocab.txt, one speech symbol a line.")
    ] = None,
    kind: Annotated[
        Literal["release", "wan2.2-ti2v-5b", "wan2.1-t2v-1.3b"],
        typer.Option(help="The authors' release, or a Wan model as a start for `uniavgen train --init`."),
    ] = "release",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Of transformer and caption encoder; that of the source if left out."),
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit on the hub.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use what the hub's cache holds; no network.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Place every name and shape, write and download nothing.")
    ] = False,
    shard_mb: Annotated[int, typer.Option(metavar="N", min=1, help="Largest file of weights.")] = 2000,
) -> None:
    """Convert published weights. Given again after an interruption, it goes on where it stopped."""
    if not dry_run and out is None:
        raise ConfigError("convert needs --out with the folder to make, or --dry-run")
    if kind == "release" and vocab is None:
        raise ConfigError(
            "the release needs --vocab with its vocab.txt, which lies in the authors' code repository, not beside the "
            "weights"
        )
    if kind != "release" and vocab is not None:
        raise ConfigError(f"--vocab belongs to the release, {kind} has no speech; leave it out")
    from uniavgen.checkpoint.conversion import check_output, readable

    if out is not None:
        check_output(out)
        _check_apart(out, source)
    symbols = _symbols(vocab) if kind == "release" else None
    folder = _folder(source, kind, revision, offline or dry_run)
    parts = _parts(folder, kind, symbols, dtype)
    conversion = _conversion(parts, source, folder, kind, dtype, shard_mb * 10**6)
    for part in parts:
        print(_described(part))
    if dry_run or out is None:
        print(f"every name has its place; the output would be {readable(conversion.num_bytes)}, nothing was written")
        return
    kept = _run(conversion, out)
    more = f", {kept} of them complete from an earlier run" if kept else ""
    print(f"{out}: {len(conversion.files)} files, {readable(conversion.num_bytes)}{more}")


def _check_apart(out: Path, source: str) -> None:
    folder = Path(source)
    if folder.exists() and out.absolute().resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(f"the output {out} would lie inside the source {source}; choose another --out")


def _symbols(vocab: Path | None) -> "SpeechSymbols | None":
    from uniavgen.codecs.speech_symbols import SpeechSymbols

    return None if vocab is None else SpeechSymbols.from_vocabulary(vocab)


def _folder(source: str, kind: str, revision: str | None, offline: bool) -> Path:
    """The source on this machine."""
    import sys

    from uniavgen.artifacts import is_hub_name
    from uniavgen.checkpoint.hub import fetch
    from uniavgen.checkpoint.published import KINDS

    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(f"{source} is a folder, which has no --revision; leave it out")
        return folder
    if folder.exists() or not is_hub_name(source):
        raise CheckpointError(f"there is no folder {source}; give a folder, or a hub name such as OWNER/NAME")

    def told(why: str) -> None:
        print(f"trying again: {why}", file=sys.stderr)

    return fetch(source, KINDS[kind].needed, revision, offline, told)


def _parts(folder: Path, kind: str, symbols: "SpeechSymbols | None", dtype: str | None) -> "list[Component]":
    import torch

    from uniavgen.checkpoint.published import release_components, wan_components

    chosen: torch.dtype | None = None if dtype is None else getattr(torch, dtype)
    return wan_components(folder, kind, chosen) if symbols is None else release_components(folder, symbols, chosen)


def _conversion(
    parts: "list[Component]", source: str, folder: Path, kind: str, dtype: str | None, shard_bytes: int
) -> "Conversion":
    from importlib.metadata import version

    import uniavgen
    from uniavgen.checkpoint.conversion import Conversion
    from uniavgen.checkpoint.published import KINDS

    is_folder = Path(source).is_dir()
    files: list[OutputFile] = [file for part in parts for file in part.files(shard_bytes)]
    if KINDS[kind].is_model:
        files.append(_model_index(parts))
    sources = sorted({path for part in parts for tensor in part.tensors[:1] for path in tensor.weights.files})
    facts = {
        "made_by": f"uniavgen {uniavgen.__version__}",
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "kind": kind,
        "source": {
            "name": folder.resolve().name if is_folder else source,
            "commit": None if is_folder else folder.name,
            "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in sources},
        },
        "dtype": dtype or "as in the source",
    }
    return Conversion(files=files, facts=facts)


def _model_index(parts: "Sequence[Component]") -> "OutputFile":
    """What `from_pretrained` reads first; the pipeline itself checks that the parts belong together."""
    import json

    from uniavgen.checkpoint.files import json_file
    from uniavgen.config import dump
    from uniavgen.flow.guidance import PAPER, RELEASE_SKIP_LAYERS
    from uniavgen.inference.pipeline import UniAVGenPipeline
    from uniavgen.inference.request import SamplingConfig
    from uniavgen.inference.resize import ResizeShortSide
    from uniavgen.timebase import Source

    components = {part.name: part.module for part in parts}
    # The block that the release skips is one of thirty; a smaller model has none to spare.
    has_block = components["transformer"].settings.num_layers > max(RELEASE_SKIP_LAYERS)
    sampling = SamplingConfig(guidance=None if has_block else PAPER, source=Source.RELEASE)
    pipeline = UniAVGenPipeline(**components, picture_config=dump(ResizeShortSide()), sampling_config=dump(sampling))
    return json_file("model_index.json", json.loads(pipeline.to_json_string()))


def _described(part: "Component") -> str:
    from uniavgen.checkpoint.conversion import readable

    if not part.tensors:
        return f"{part.name:>16}  {len(part.settings)} files, {readable(part.num_bytes)}"
    numbers = sum(tensor.num_bytes // tensor.dtype.itemsize for tensor in part.tensors)
    dtypes = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in part.tensors}))
    count = f"{len(part.tensors)} tensors, {numbers / 1e6:.2f}M parameters"
    return f"{part.name or part.stem:>16}  {count}, {readable(part.num_bytes)}, {dtypes}"


def _run(conversion: "Conversion", out: Path) -> int:
    import sys

    from tqdm import tqdm

    from uniavgen.artifacts import partial_path

    with tqdm(total=conversion.num_bytes, unit="B", unit_scale=True, desc="     convert", mininterval=0.3) as bar:
        try:
            return conversion.run(out, lambda count: bar.update(count) and None)
        except KeyboardInterrupt:
            bar.close()
            print(f"what is complete lies in {partial_path(out)}; the same command goes on from it", file=sys.stderr)
            raise typer.Exit(_INTERRUPTED) from None
