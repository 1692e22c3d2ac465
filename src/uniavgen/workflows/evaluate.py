"""Measures systems on a set of prompts and writes a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import uniavgen
from uniavgen.arguments import check_arguments
from uniavgen.artifacts import exclusive_output
from uniavgen.distributed import select_device
from uniavgen.errors import ConfigError
from uniavgen.evaluation.clip import find_clips
from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
from uniavgen.evaluation.page import write_report_page
from uniavgen.evaluation.prompts import PromptSet, read_prompts
from uniavgen.evaluation.protocol import ClipMeasured, System, run
from uniavgen.evaluation.published import TABLES
from uniavgen.evaluation.registry import select_metrics
from uniavgen.evaluation.report import Report
from uniavgen.evaluation.store import ScoreStore
from uniavgen.perception.weights import WeightResolver

NO_PUBLISHED_ROWS = "none"
PACKAGES = (
    "ai-edge-litert",
    "audiobox_aesthetics",
    "av",
    "dlib-bin",
    "faster-whisper",
    "jiwer",
    "kaldi-native-fbank",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pyiqa",
    "python_speech_features",
    "scipy",
    "torch",
    "transformers",
    "whisper-normalizer",
)
"""Packages whose versions may change a number, besides our own."""

GenerateSystems = Callable[[PromptSet, Path], list[System]]
"""Generates the clips of systems for all prompts into a report's folder."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured, with what, and where the report goes. ConfigError where that makes no sense."""

    prompts: Path
    out: Path
    """Folder of the report; measurements that it holds are not made again."""
    systems: Sequence[System] = ()
    metrics: Sequence[str] = ()
    """Names or groups; all if empty."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Name of a network to a file, a folder or a hub name."""
    assets: Path | None = None
    """Folder where networks lie under their usual names."""
    chance: bool = False
    """Whether every clip is also measured against the next prompt, as a control."""
    published: str = "table1"
    """Key of TABLES whose rows stand beside ours, or NO_PUBLISHED_ROWS."""
    judge: JudgeEndpoint | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.published not in (*TABLES, NO_PUBLISHED_ROWS):
            names = ", ".join(TABLES)
            raise ConfigError(f"there are no published rows '{self.published}'; choose {names} or none")


def evaluate(
    config: EvaluationConfig,
    generate: GenerateSystems | None = None,
    on_clip: Callable[[ClipMeasured], None] | None = None,
) -> Report:
    """Measures all systems, writes report.html, report.json and report.md, and returns the report.

    `generate` makes the clips of further systems first, once all else is known to make sense. Raises OutputError where
    another process evaluates into the same folder.
    """
    if generate is None and not config.systems:
        raise ConfigError("there is nothing to measure; name a folder of clips, or a model with --generate")
    with exclusive_output(config.out):
        return _evaluate(config, generate, on_clip)


def _evaluate(
    config: EvaluationConfig,
    generate: GenerateSystems | None,
    on_clip: Callable[[ClipMeasured], None] | None,
) -> Report:
    prompts = read_prompts(config.prompts)
    resolver = WeightResolver(weights=config.weights, assets=config.assets)
    selection = select_metrics(config.metrics, resolver, str(select_device(config.device)), config.judge)
    store = ScoreStore(config.out)
    systems = [*config.systems, *(generate(prompts, config.out) if generate else [])]
    _check_names(systems)
    if config.chance:
        systems += [_control(system) for system in systems]
    report = Report(
        title=f"{config.prompts.parent.name or config.prompts.stem}: {', '.join(each.name for each in systems)}",
        protocol={"prompts": len(prompts.prompts), "prompts_sha256": prompts.sha256},
        networks=selection.networks,
        versions=_versions(),
        columns=[column for metric in selection.metrics for column in metric.columns],
        missing=selection.missing,
        prompts=prompts,
        systems=run(systems, prompts, selection.metrics, store, selection.checksums, on_clip),
        published={} if config.published == NO_PUBLISHED_ROWS else TABLES[config.published],
    )
    report.write(config.out)
    write_report_page(report, config.out)
    return report


def parse_systems(clips: Sequence[str], name: str | None = None) -> list[System]:
    """Returns the systems of texts `DIR` or `NAME=DIR`; `name` is that of a single folder.

    Raises ConfigError where names and folders do not match, DataError where a folder is missing.
    """
    if name is not None and len(clips) != 1:
        raise ConfigError(f"--system names a single folder of clips, got {len(clips)}; write NAME=DIR for each")
    systems = []
    for text in clips:
        label, separator, folder = text.partition("=")
        path = Path(folder if separator else text)
        find_clips(path)
        systems.append(System(name=name or (label if separator else path.resolve().name), folder=path))
    return systems


def parse_weights(texts: Sequence[str]) -> dict[str, str]:
    """Returns name to path of texts `NAME=PATH`; raises ConfigError for other texts."""
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not value:
            raise ConfigError(f"--weights is NAME=PATH, got '{text}'")
        pairs[name] = value
    return pairs


def _check_names(systems: Sequence[System]) -> None:
    names = [system.name for system in systems]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"two systems are called '{repeated[0]}'; name them: NAME=DIR")


def _control(system: System) -> System:
    return replace(
        system,
        name=f"{system.name} (chance)",
        description=f"clips of {system.name} against the next prompt",
        mismatched_prompts=True,
    )


def _versions() -> dict[str, str]:
    versions = {"uniavgen": uniavgen.__version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
