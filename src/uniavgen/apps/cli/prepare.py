"""`uniavgen prepare`: a data set to the features that training reads."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from uniavgen.apps.cli.options import Jobs, Ray
from uniavgen.arguments import parse_size


def prepare(
    data: Annotated[
        list[str],
        typer.Option(
            help="Shards (*.tar; also by URL), clips with transcripts (a folder or list), or a speech set; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the feature shards; a second run goes on where it stopped.")],
    model: Annotated[str, typer.Option(help="Preset or YAML file of the transformer's sizes.")] = "nano/model",
    parts: Annotated[
        Path | None,
        typer.Option(help="Model folder with vae, text_encoder and tokenizer; none for speech alone."),
    ] = None,
    vocab: Annotated[
        Path | None, typer.Option(help="The model's speech symbols, one a line; printable ASCII if left out.")
    ] = None,
    verbatim: Annotated[
        bool, typer.Option("--verbatim", help="Leave figures and abbreviations in transcripts as they are written.")
    ] = False,
    num_frames: Annotated[str, typer.Option(help="Pixel frames a clip, 1 + 4n; or several, such as 33,57,81.")] = "81",
    size: Annotated[
        str | None,
        typer.Option(help="Picture sizes a clip may have, such as 736x736,1280x736; that of the first clip."),
    ] = None,
    fit: Annotated[
        Literal["exact", "crop"], typer.Option(help="Clips of another --size are left out, or cropped to the nearest.")
    ] = "exact",
    device: Annotated[str, typer.Option(help="Where the codecs run: cpu, cuda, cuda:1 ...")] = "cpu",
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first so many clips.")] = None,
    jobs: Jobs = None,
    ray: Ray = None,
) -> None:
    """Encode every clip once: video latents, mel, face mask on the token grid, caption features."""
    from uniavgen.apps.cli.options import parse_counts
    from uniavgen.apps.cli.progress import progress_bar
    from uniavgen.config import load
    from uniavgen.data_engine.choose_executor import choose_executor
    from uniavgen.distributed import check_device_name, select_device
    from uniavgen.models.config import TransformerConfig
    from uniavgen.workflows.encode_clips import FitRule
    from uniavgen.workflows.prepare import SKIPPED_FILE, FeatureSettings, prepare_features

    check_device_name(device)
    settings = FeatureSettings(
        num_frames=parse_counts("--num-frames", num_frames),
        sizes=tuple(pixels for one in size.split(",") if (pixels := parse_size(one))) if size else (),
        fit=FitRule(fit),
        vocabulary=vocab,
        verbatim=verbatim,
        limit=limit,
    )
    with progress_bar("clip", "prepare") as on_progress:
        prepared = prepare_features(
            data,
            out,
            load(TransformerConfig, [model]),
            settings,
            codecs=parts,
            device=select_device(device),
            executor=choose_executor(jobs, ray, device),
            on_progress=on_progress,
        )
    typer.echo(f"{prepared.num_clips} clips are prepared in {out}")
    if prepared.skipped:
        count, first = len(prepared.skipped), prepared.skipped[0].reason
        typer.echo(f"{count} samples are left out, reasons in {out / SKIPPED_FILE}; first: {first}", err=True)
    if prepared.num_overlong:
        typer.echo(
            f"{prepared.num_overlong} clips were cut and their words have no times: transcripts may say too much",
            err=True,
        )
