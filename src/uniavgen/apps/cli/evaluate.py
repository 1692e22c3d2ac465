"""`uniavgen evaluate`: clips of any systems, or of a model, measured on a set of prompts."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import uniavgen
from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.progress import clip_bar
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.timebase import NUM_FRAMES
from uniavgen.workflows.load_config import LoadConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uniavgen.evaluation.protocol import System

CONFIGS = {o.ClipOptions: ("preview",), SamplingConfig: (), LoadConfig: ("model",)}
"""Dataclasses whose fields are options, for --generate, and fields that are none."""
ASSETS, JUDGE_KEY = "UNIAVGEN_ASSETS", "UNIAVGEN_JUDGE_KEY"
PACKAGES = (
    "ai-edge-litert",
    "audiobox_aesthetics",
    "av",
    "dlib-bin",
    "faster-whisper",
    "kaldi-native-fbank",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pyiqa",
    "python_speech_features",
    "torch",
    "transformers",
    "whisper-normalizer",
)
"""Whose versions may change a score, beside our own."""


def evaluate(
    context: typer.Context,
    prompts: Annotated[Path, typer.Option(metavar="FILE", help="Prompts, one JSON object a line.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report; a second run goes on.")],
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]DIR", help="Folders of clips ID.mp4, one for each system."),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the system of a single folder.")] = None,
    metrics: Annotated[
        str,
        typer.Option(metavar="LIST", help="Names or groups (truth, codecs, paper, open), by commas; all if left out."),
    ] = "",
    assets: Annotated[
        Path | None, typer.Option(metavar="DIR", envvar=ASSETS, help="Folder of networks that metrics use.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="A network: file, folder or hub name; repeatable.")
    ] = None,
    chance: Annotated[
        bool, typer.Option("--chance", help="Also measure every clip against the next prompt, as a control.")
    ] = False,
    published: Annotated[
        str, typer.Option(metavar="NAME", help="Published rows beside ours: table1, grid, emtd or none.")
    ] = "table1",
    generate: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Make the clips first: nano, a folder or a hub name.")
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="LIST", help="Tasks to generate, by commas; all; or reconstruction.")
    ] = "joint",
    num_frames: o.NumFrames = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"Endpoint of OpenAI's kind for TC and EC; its key in ${JUDGE_KEY}."),
    ] = None,
    judge_model: Annotated[str, typer.Option(metavar="NAME", help="Model that judges.")] = "gemini-2.5-pro",
    mouth_reader: Annotated[Path | None, typer.Option(help="Another mouth reader than the built-in one.")] = None,
) -> None:
    """Measure clips of any systems against the prompts they were made from, and write a report.

    Everything that was measured is kept in the report's folder, so a run that was stopped goes on where it was.
    """
    from uniavgen.distributed import select_device
    from uniavgen.errors import ConfigError
    from uniavgen.evaluation.catalogue import Options, choose
    from uniavgen.evaluation.metrics.judge import Endpoint
    from uniavgen.evaluation.networks import Places
    from uniavgen.evaluation.page import write_page
    from uniavgen.evaluation.prompts import read_prompts
    from uniavgen.evaluation.protocol import run
    from uniavgen.evaluation.published import TABLES
    from uniavgen.evaluation.report import Report
    from uniavgen.evaluation.store import ScoreStore

    load = o.load_config(context, **({} if generate is None else {"model": generate}))
    if published not in (*TABLES, "none"):
        raise ConfigError(f"there are no published rows '{published}'; choose {', '.join(TABLES)} or none")
    systems = _systems(clips or [], system)
    loader = set_config = None
    if generate is not None:
        from uniavgen.workflows.generate_set import SetConfig, parse_kinds
        from uniavgen.workflows.load import ModelLoader

        clip = o.ClipOptions(**o.given_values(context, o.ClipOptions))
        set_config = SetConfig(
            kinds=parse_kinds(task),
            num_frames=num_frames or NUM_FRAMES,
            size=o.parse_size(clip.size),
            seed=clip.seed,
            sampling=o.given_values(context, SamplingConfig),
        )
        loader = ModelLoader(load, print)
    elif not systems:
        raise ConfigError("there is nothing to measure; name a folder of clips, or a model with --generate")
    endpoint = Endpoint(url=judge, model=judge_model, key=os.environ.get(JUDGE_KEY, "")) if judge else None
    found = read_prompts(prompts)
    chosen = choose(
        [name.strip() for name in metrics.split(",") if name.strip()],
        Places(weights=_pairs(weights or []), assets=assets),
        Options(device=select_device(load.device), mouth_reader=mouth_reader, judge=endpoint),
    )
    store = ScoreStore(out)
    if loader is not None and set_config is not None:
        from uniavgen.workflows.generate_set import generate_set

        systems += generate_set(loader, set_config, found, out, clip_bar)
    _check_names(systems)
    if chance:
        systems += [_against_next(each) for each in systems]
    with _Bar(sum(len(found.prompts) for _ in systems)) as bar:
        rows = run(systems, found, chosen.metrics, store, chosen.checksums, bar.show)
    report = Report(
        title=f"{prompts.parent.name or prompts.stem}: {', '.join(each.name for each in systems)}",
        protocol={"prompts": len(found.prompts), "prompts_sha256": found.sha256},
        networks=chosen.networks,
        versions=_versions(),
        columns=[column for metric in chosen.metrics for column in metric.columns],
        missing=chosen.missing,
        prompts=found,
        systems=rows,
        published={} if published == "none" else TABLES[published],
    )
    report.write(out)
    write_page(report, out)
    typer.echo(report.to_markdown())
    measured, problems = sum(each.num_measured for each in rows), sum(each.num_problems for each in rows)
    typer.echo(
        f"{measured} clips measured, {problems} rows with a problem; in {out}: report.html, report.json, report.md"
    )


def _systems(clips: "Sequence[str]", name: str | None) -> "list[System]":
    from uniavgen.errors import ConfigError
    from uniavgen.evaluation.clip import find_clips
    from uniavgen.evaluation.protocol import System

    if name is not None and len(clips) != 1:
        raise ConfigError(f"--system names a single folder of clips, got {len(clips)}; write NAME=DIR for each")
    systems = []
    for text in clips:
        label, separator, folder = text.partition("=")
        path = Path(folder if separator else text)
        find_clips(path)
        systems.append(System(name=name or (label if separator else path.resolve().name), folder=path))
    return systems


def _check_names(systems: "Sequence[System]") -> None:
    from uniavgen.errors import ConfigError

    names = [each.name for each in systems]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"two systems are called '{twice[0]}'; name them: NAME=DIR")


def _against_next(system: "System") -> "System":
    from dataclasses import replace

    return replace(
        system,
        name=f"{system.name} (chance)",
        description=f"clips of {system.name} against the next prompt",
        against_next=True,
    )


def _pairs(texts: "Sequence[str]") -> dict[str, str]:
    from uniavgen.errors import ConfigError

    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not value:
            raise ConfigError(f"--weights is NAME=PATH, got '{text}'")
        pairs[name] = value
    return pairs


def _versions() -> dict[str, str]:
    found = {"uniavgen": uniavgen.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class _Bar:
    """Progress of `protocol.run`."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, unit="clip", smoothing=0.1)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, step: Any) -> None:
        self._bar.total = step.total
        self._bar.set_description(step.system)
        self._bar.update()
