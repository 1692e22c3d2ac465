"""`uniavgen convert`: published weights to a model folder that every other command takes as --model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from uniavgen.errors import ConfigError

if TYPE_CHECKING:
    from uniavgen.checkpoint.components import Component
    from uniavgen.checkpoint.conversion import Conversion

_INTERRUPTED = 130


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Folder, file of weights, or name on the hub.")],
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
    import sys

    from uniavgen.checkpoint.conversion import readable
    from uniavgen.codecs.speech_symbols import SpeechSymbols
    from uniavgen.workflows.convert import check_conversion, find_source, match_components, plan_conversion

    def print_retry(reason: str) -> None:
        print(f"trying again: {reason}", file=sys.stderr)

    check_conversion(source, out, kind, vocab)
    symbols = None if vocab is None else SpeechSymbols.from_vocabulary(vocab)
    folder = find_source(source, kind, revision, offline or dry_run, print_retry)
    components = match_components(folder, kind, symbols, dtype)
    conversion = plan_conversion(components, source, folder, kind, dtype, shard_mb * 10**6)
    for component in components:
        print(_describe(component))
    if dry_run or out is None:
        print(f"every name has its place; the output would be {readable(conversion.num_bytes)}, nothing was written")
        return
    num_resumed = _run(conversion, out)
    more = f", {num_resumed} of them complete from an earlier run" if num_resumed else ""
    print(f"{out}: {len(conversion.files)} files, {readable(conversion.num_bytes)}{more}")


def _describe(part: "Component") -> str:
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
        except KeyboardInterrupt as error:
            bar.close()
            print(f"what is complete lies in {partial_path(out)}; the same command goes on from it", file=sys.stderr)
            raise typer.Exit(_INTERRUPTED) from error
