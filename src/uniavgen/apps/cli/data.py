"""`uniavgen data`: raw video to records, decisions and shards."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniavgen.apps.cli.evaluate import ASSETS
from uniavgen.apps.cli.options import Jobs, Ray

if TYPE_CHECKING:
    from uniavgen.data_engine.rules import Rules
    from uniavgen.perception.weights import WeightResolver

Work = Annotated[Path, typer.Option(metavar="DIR", help="Folder of records; a second run goes on.")]
Assets = Annotated[Path | None, typer.Option(metavar="DIR", envvar=ASSETS, help="Folder of networks that stages use.")]
Weights = Annotated[
    list[str] | None, typer.Option(metavar="NAME=PATH", help="A network: file, folder or hub name; repeatable.")
]
NumFrames = Annotated[int, typer.Option(metavar="N", help="Frames of a clip, 1 + 4n at 16 a second.")]
RuleFiles = Annotated[
    list[str] | None, typer.Option(metavar="FILE", help="Preset or YAML of rules; data/rules if left out.")
]
RequireLicence = Annotated[bool, typer.Option("--require-licence", help="Drop what has no known licence.")]
RequireConsent = Annotated[bool, typer.Option("--require-consent", help="Drop what has no known consent.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")]


def run(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCES...", help="Videos, folders or lists of them.")],
    work: Work,
    jobs: Jobs = None,
    ray: Ray = None,
    assets: Assets = None,
    weights: Weights = None,
    without: Annotated[
        str, typer.Option(metavar="LIST", help="Stages to leave out, by commas; their rules do not count.")
    ] = "",
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", metavar="FILE", help="YAML with settings of stages.")
    ] = None,
    overrides: Set = None,
    device: Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Score videos: shots, faces, words, sync, quality. Only what is not recorded yet is computed."""
    from uniavgen.apps.cli.progress import progress_bar
    from uniavgen.data_engine.choose_executor import choose_executor
    from uniavgen.distributed import check_device_name
    from uniavgen.workflows.data_engine import StageSelection, run_stages

    check_device_name(device)
    selection = StageSelection(
        without=[name.strip() for name in without.split(",") if name.strip()],
        settings=config or [],
        overrides=overrides or [],
        resolver=_resolver(assets, weights),
        device=device,
    )
    with progress_bar("video", "run") as on_progress:
        summary = run_stages(sources, work, selection, choose_executor(jobs, ray, device), on_progress)
    typer.echo(f"{summary.num_usable} videos are scored in {work}")
    for path in summary.left_out:
        typer.echo(f"{path} is left out: it has opted out or was forgotten", err=True)
    for failure in summary.failures[:_SHOWN]:
        typer.echo(f"{failure.path}: {failure.reason}", err=True)
    if summary.failures:
        typer.echo(f"{len(summary.failures)} videos or folders cannot be used in full, all reasons in {work}", err=True)


def pack(
    work: Work,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the shards; a second run goes on.")],
    num_frames: NumFrames = 81,
    short_side: Annotated[int, typer.Option(metavar="PX", help="Larger pictures are scaled down to this.")] = 736,
    rules: RuleFiles = None,
    overrides: Set = None,
    require_licence: RequireLicence = False,
    require_consent: RequireConsent = False,
    jobs: Jobs = None,
    ray: Ray = None,
    assets: Assets = None,
    weights: Weights = None,
) -> None:
    """Cut the clips that the rules keep into shards for `prepare`; a changed rule reruns no stage."""
    from uniavgen.apps.cli.progress import progress_bar
    from uniavgen.data_engine.choose_executor import choose_executor
    from uniavgen.workflows import data_engine as engine

    chosen = _rules(rules, overrides, require_licence, require_consent)
    config = engine.PackConfig(
        work=work, out=out, num_frames=num_frames, short_side_px=short_side, resolver=_resolver(assets, weights)
    )
    with progress_bar("clip", "pack") as on_progress:
        decisions, packed = engine.pack(config, chosen, choose_executor(jobs, ray), on_progress)
    num_kept = sum(decision.is_kept for decision in decisions.candidates)
    num_dropped = len(decisions.candidates) - num_kept
    typer.echo(f"{packed.num_clips} clips of {num_kept} candidates are in {out}; {num_dropped} dropped")
    typer.echo(f"sizes: {', '.join(f'{width}x{height} ({count})' for (width, height), count in packed.sizes.items())}")
    for clip in packed.lost[:_SHOWN]:
        typer.echo(f"{clip.key} is lost: {clip.reason}", err=True)


def report(
    work: Work,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for report.html; WORK/report if left out.")
    ] = None,
    num_frames: NumFrames = 81,
    rules: RuleFiles = None,
    overrides: Set = None,
    require_licence: RequireLicence = False,
    require_consent: RequireConsent = False,
    seed: Annotated[int, typer.Option(help="Which clips are shown.")] = 0,
) -> None:
    """Write a page: what the rules keep and drop and why, with clips to watch. It opens from disk."""
    from uniavgen.apps.cli.progress import progress_bar
    from uniavgen.workflows.data_engine import write_data_report

    folder, chosen = out or work / "report", _rules(rules, overrides, require_licence, require_consent)
    with progress_bar("clip", "report") as on_progress:
        found = write_data_report(work, folder, chosen, num_frames=num_frames, seed=seed, on_progress=on_progress)
    totals = found.totals()
    typer.echo(f"{totals['kept']} of {totals['candidates']} candidates are kept; {folder / 'report.html'}")


def forget(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A source's path or key, or a person.")],
    work: Work,
    features: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Features to look for its clips in; repeatable.")
    ] = None,
    block: Annotated[
        bool, typer.Option("--block", help="Keep a person out of other videos too, by voice and face (kept in WORK).")
    ] = False,
) -> None:
    """Remove a source and its copies, or all sources of a person, from records and shards, and keep it out."""
    from uniavgen.data_engine.forget import forget as remove
    from uniavgen.data_engine.work_folder import WorkFolder

    gone = remove(WorkFolder(work), identifier, features or [], block=block)
    typer.echo(f"{len(gone.sources)} sources and {len(gone.clips)} clips are removed; these files are yours to delete:")
    for path in gone.files:
        typer.echo(f"  {path}")
    for shard in gone.shards:
        typer.echo(f"rewritten: {shard}")
    for page in gone.reports:
        typer.echo(f"deleted: {page}")
    for folder in {shard.parent for shard in gone.shards}:
        typer.echo(f"make features of it again: uniavgen prepare --data {shlex.quote(str(folder))} --out ...")
    for folder in gone.features:
        typer.echo(f"holds clips of it: {folder}")
    for folder in gone.absent:
        typer.echo(f"{folder} was packed from these records and is not there; clips in copies of it are yours to find")


def _rules(rules: list[str] | None, overrides: list[str] | None, licence: bool, consent: bool) -> "Rules":
    from uniavgen.workflows.data_engine import load_rules

    given = {"require_licence": licence, "require_consent": consent}
    return load_rules(rules or [], overrides or [], **{key: "true" for key, value in given.items() if value})


def _resolver(assets: Path | None, weights: list[str] | None) -> "WeightResolver":
    from uniavgen.perception.weights import WeightResolver
    from uniavgen.workflows.evaluate import parse_weights

    return WeightResolver(weights=parse_weights(weights or []), assets=assets)


COMMANDS = {"run": run, "report": report, "pack": pack, "forget": forget}
"""Of the group, by name."""
_SHOWN = 10
"""Reasons on the screen."""
