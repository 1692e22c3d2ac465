"""All metrics: which there are, what they need, and which can be had here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from uniavgen.errors import ConfigError
from uniavgen.evaluation.clip import checksum
from uniavgen.evaluation.metric import Column, Metric
from uniavgen.evaluation.metrics import face_mask, mouth, wer
from uniavgen.evaluation.networks import NETWORKS, Places, Weights, how_to_get
from uniavgen.evaluation.report import Missing


@dataclass(frozen=True, kw_only=True)
class Options:
    """What metrics are built with, beside their networks."""

    device: str = "cpu"
    mouth_reader: Path | None = None


Found = Mapping[str, Weights]
"""By name of the network."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A metric that may be asked for."""

    name: str
    group: str
    """truth (against a rendered clip), paper (its metrics with its tools) or open (what runs offline)."""
    columns: Sequence[Column]
    """What is missing from the table where the metric cannot be had."""
    build: Callable[[Found, Options], Metric]
    networks: Sequence[str] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    """Module to the name it is installed by."""


_WHISPER_PACKAGES = {"whisper_normalizer": "whisper-normalizer", "faster_whisper": "faster-whisper"}

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            name="mouth",
            group="truth",
            columns=mouth.MouthAgainstTruth.columns,
            build=lambda _, options: mouth.MouthAgainstTruth(options.mouth_reader),
        ),
        Entry(
            name="face_mask",
            group="truth",
            columns=face_mask.FaceMaskIoU.columns,
            build=lambda *_: face_mask.FaceMaskIoU(),
        ),
        Entry(
            name="wer",
            group="paper",
            networks=("whisper",),
            packages=_WHISPER_PACKAGES,
            columns=wer.columns_of(wer.PAPERS_MODEL),
            build=lambda found, options: wer.WordErrorRate("whisper", found["whisper"], options.device),
        ),
        Entry(
            name="wer_base",
            group="open",
            networks=("whisper-base",),
            packages=_WHISPER_PACKAGES,
            columns=wer.columns_of("whisper-base"),
            build=lambda found, options: wer.WordErrorRate("whisper-base", found["whisper-base"], options.device),
        ),
    )
}
GROUPS = ("truth", "paper", "open")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The metrics of a run."""

    metrics: Sequence[Metric]
    missing: Sequence[Missing]
    networks: Mapping[str, Mapping[str, str]]
    """As `Report.networks`."""

    @property
    def checksums(self) -> dict[str, str]:
        return {name: facts["sha256"] for name, facts in self.networks.items()}


def choose(wanted: Sequence[str], places: Places, options: Options) -> Chosen:
    """Build what was asked for, by names of metrics or groups; nothing is all of it.

    What cannot be had is named with its reason. ConfigError for an unknown name, and where nothing can be had.
    """
    unknown = [name for name in wanted if name not in (*ENTRIES, *GROUPS)]
    if unknown:
        raise ConfigError(
            f"there is no metric '{unknown[0]}'; choose among {', '.join(ENTRIES)} or the groups {', '.join(GROUPS)}"
        )
    entries = [entry for entry in ENTRIES.values() if not wanted or {entry.name, entry.group} & {*wanted}]
    metrics: list[Metric] = []
    missing: list[Missing] = []
    for entry in entries:
        found = {name: weights for name in entry.networks if (weights := places.find(name)) is not None}
        reasons = [how_to_get(name) for name in entry.networks if name not in found]
        reasons += [
            f"the package {package} is missing: pip install 'uniavgen[eval]'"
            for module, package in entry.packages.items()
            if find_spec(module.partition(".")[0]) is None
        ]
        if reasons:
            missing += [Missing(column=column, reason="; ".join(reasons)) for column in entry.columns]
        else:
            metrics.append(entry.build(found, options))
    if not metrics:
        raise ConfigError("none of these metrics can be computed here: " + "; ".join({m.reason: 0 for m in missing}))
    return Chosen(metrics=metrics, missing=missing, networks=_facts(metrics))


def _facts(metrics: Sequence[Metric]) -> dict[str, dict[str, str]]:
    used = dict(item for metric in metrics for item in metric.networks.items())
    return {
        name: {
            "source": weights.label,
            "licence": NETWORKS[name].licence if name in NETWORKS else "Apache-2.0",
            "sha256": checksum(weights.path),
        }
        for name, weights in sorted(used.items())
    }
