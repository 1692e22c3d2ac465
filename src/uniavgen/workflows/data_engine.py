"""From raw video to shards: stages are run, rules applied and reported, clips packed, sources forgotten."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import exclusive_output
from uniavgen.config import load, preset_names
from uniavgen.data.given_sets import is_table
from uniavgen.data_engine.candidates import SEGMENTS
from uniavgen.data_engine.corpus import FIND_DUPLICATES, GROUP_PERSONS, DuplicateSearch, PersonGrouping
from uniavgen.data_engine.cut import ClipCutter
from uniavgen.data_engine.decisions import Decisions, decide, write_decisions
from uniavgen.data_engine.executors import Executor, InProcess
from uniavgen.data_engine.forget import DECISIONS_FILE, forget_copies
from uniavgen.data_engine.graph import StageGraph
from uniavgen.data_engine.pack import PackSummary, pack_clips, plan_clips
from uniavgen.data_engine.registry import STAGES, build_stages
from uniavgen.data_engine.report import ReportData
from uniavgen.data_engine.report_page import PAGE_FILE, write_data_page
from uniavgen.data_engine.rules import Rules
from uniavgen.data_engine.source import SourceVideo, find_sources
from uniavgen.data_engine.stage import Stage
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.errors import ConfigError, DataError
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES
from uniavgen.perception.packages import is_missing
from uniavgen.perception.weights import WeightResolver
from uniavgen.timebase import NUM_FRAMES, Timebase

RULES_PRESET: Final = "data/rules"
SHORT_SIDE_PX: Final = 736
"""[paper 4.1: 736 px]"""
OnCount = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class StageSelection:
    """Which stages are run, and with what."""

    stages: Sequence[type[Stage]] = STAGES
    without: Collection[str] = ()
    """Names of stages that are left out."""
    settings: Sequence[str] = ()
    """YAML files with settings of stages by their names."""
    overrides: Sequence[str] = ()
    """`STAGE.KEY=VALUE`."""
    resolver: WeightResolver = field(default_factory=WeightResolver)
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class SourceFailure:
    """A source, or a folder of sources, of which nothing or not everything could be computed."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What became of the sources of a run."""

    num_usable: int
    failures: Sequence[SourceFailure]
    left_out: Sequence[Path]
    """Sources that have opted out, were forgotten, or repeat a forgotten one."""


@dataclass(frozen=True)
class RecordTask:
    """Records everything about a source."""

    graph: StageGraph

    def __call__(self, source: SourceVideo) -> dict[str, str]:
        """Returns the reason of each stage, empty where there is none."""
        return {name: output.reason for name, output in self.graph(source).items()}


def run_stages(
    paths: Iterable[Path],
    work_folder: Path,
    selection: StageSelection | None = None,
    executor: Executor | None = None,
    on_progress: OnCount = lambda _done, _total: None,
) -> RunSummary:
    """Records what stages say of videos in `work_folder`, as far as it is not recorded yet.

    Raises DataError where there is no video, or none that can be used, and as `build_stages` does.
    """
    chosen, work = selection or StageSelection(), WorkFolder(work_folder)
    graph = build_stages(
        work_folder,
        stages=chosen.stages,
        without=chosen.without,
        settings=chosen.settings,
        overrides=chosen.overrides,
        resolver=chosen.resolver,
        device=chosen.device,
    )
    paths = list(paths)
    found, unreadable = find_sources(paths)
    failures = [SourceFailure(path=each.path, reason=each.reason) for each in unreadable]
    left_out = [source for source in found if source.rights.opt_out == "yes" or source.key in work.forgotten]
    sources = [source for source in found if source not in left_out]
    num_usable = 0
    with exclusive_output(work_folder):
        work.add_run(graph, sources, unreadable, filter(is_table, paths))
        on_progress(0, len(sources))
        for done, outcome in enumerate((executor or InProcess()).map(RecordTask(graph), sources), start=1):
            if outcome.has_died:
                graph.give_up(outcome.job, outcome.reason)
            reasons: Mapping[str, str] = outcome.result or {}
            reason = outcome.reason or next((f"{name}: {text}" for name, text in reasons.items() if text), "")
            if reason:
                failures.append(SourceFailure(path=outcome.job.path, reason=reason))
            num_usable += _is_usable(reasons)
            on_progress(done, len(sources))
        copies = forget_copies(work)
    num_usable -= len({source.path for source in sources} & {*copies})
    left_paths = [*(source.path for source in left_out), *copies]
    if not num_usable:
        without_failure = "they have opted out or were forgotten" if left_paths else "there are none"
        first = failures[0].reason if failures else without_failure
        raise DataError(f"none of the sources can be used, first {first}")
    return RunSummary(num_usable=num_usable, failures=failures, left_out=left_paths)


def load_rules(files: Sequence[str] = (), overrides: Sequence[str] = (), **given: Any) -> Rules:
    """Returns the rules of the preset or of files, with `key.path=value` changes, and values that are `given`."""
    assert RULES_PRESET in preset_names()
    return load(Rules, list(files) or [RULES_PRESET], [*overrides, *(f"{key}={value}" for key, value in given.items())])


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How clips are cut, and where they go."""

    work: Path
    out: Path
    num_frames: int = NUM_FRAMES
    """Of a clip, 1 + 4n."""
    short_side_px: int = SHORT_SIDE_PX
    """Larger pictures are scaled down to this shorter side."""
    resolver: WeightResolver = field(default_factory=WeightResolver)
    """Finds the face mesh; without it clips have no face mask."""
    group_persons: PersonGrouping = GROUP_PERSONS
    find_duplicates: DuplicateSearch = FIND_DUPLICATES

    def __post_init__(self) -> None:
        if not 64 <= self.short_side_px <= 4096:
            raise ConfigError(f"the shorter side of a clip has 64 to 4096 px, got {self.short_side_px}")


def pack(
    config: PackConfig,
    rules: Rules,
    executor: Executor | None = None,
    on_progress: OnCount = lambda _done, _total: None,
) -> tuple[Decisions, PackSummary]:
    """Decides about all candidates, and cuts those that are kept into shards; goes on where it was stopped.

    Raises DataError where nothing is kept, or the shards are those of other rules.
    """
    work, timing = WorkFolder(config.work), Timebase().clip(config.num_frames)
    decisions = decide(work, rules, timing, group_persons=config.group_persons, find_duplicates=config.find_duplicates)
    weights = {name: config.resolver.resolve(name) for name in MESH_NETWORKS}
    has_mesh = all(weights.values()) and not any(map(is_missing, MESH_PACKAGES))
    cutter = ClipCutter(
        timing=timing,
        short_side_px=config.short_side_px,
        weights={name: found for name, found in weights.items() if found} if has_mesh else {},
    )
    with exclusive_output(config.work):
        write_decisions(config.work / DECISIONS_FILE, decisions, rules)
        plans = plan_clips(decisions, rules, timing)
        if not plans:
            raise DataError(f"no clip is kept; the reasons stand in {config.work / DECISIONS_FILE}")
        work.add_pack(config.out)
        summary = pack_clips(plans, config.out, cutter, executor or InProcess(), on_progress=on_progress)
    if not summary.num_clips:
        raise DataError(f"none of the {len(plans)} clips can be cut, first {summary.lost[0].reason}")
    return decisions, summary


def write_data_report(
    work_folder: Path,
    out: Path,
    rules: Rules,
    *,
    num_frames: int = NUM_FRAMES,
    seed: int = 0,
    on_progress: OnCount = lambda _done, _total: None,
) -> ReportData:
    """Writes report.html into `out`: what the rules keep and drop, with clips to watch. Nothing else is changed.

    Raises DataError where nothing was run.
    """
    work, timing = WorkFolder(work_folder), Timebase().clip(num_frames)
    report = ReportData(work=work, decisions=decide(work, rules, timing), rules=rules, timing=timing)
    # Remembered before it is written, so that forgetting finds it.
    with exclusive_output(work_folder):
        work.add_report(out / PAGE_FILE)
    write_data_page(report, out / PAGE_FILE, f"Data in {work_folder.absolute().name}", seed, on_progress)
    return report


def _is_usable(reasons: Mapping[str, str]) -> bool:
    """Returns whether a source may give clips: its segments are known, or everything where no stage finds segments."""
    return bool(reasons) and not (reasons[SEGMENTS] if SEGMENTS in reasons else any(reasons.values()))
