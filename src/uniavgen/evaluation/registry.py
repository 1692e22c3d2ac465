"""All metrics: which there are, and which can be computed here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uniavgen.artifacts import checksum
from uniavgen.errors import ConfigError
from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
from uniavgen.evaluation.metric import Column, Group, Metric, MetricContext
from uniavgen.evaluation.metrics.aesthetics import AudioAesthetics
from uniavgen.evaluation.metrics.dynamic_degree import DynamicDegree
from uniavgen.evaluation.metrics.face_mask import FaceMaskIoU
from uniavgen.evaluation.metrics.frechet import FrechetInceptionDistance, FrechetVideoDistance
from uniavgen.evaluation.metrics.identity import FaceIdentity
from uniavgen.evaluation.metrics.imaging_quality import ImagingQuality
from uniavgen.evaluation.metrics.judge import Judge
from uniavgen.evaluation.metrics.lip_sync import SyncNetLipSync
from uniavgen.evaluation.metrics.motion import Motion
from uniavgen.evaluation.metrics.mouth import MouthOpening
from uniavgen.evaluation.metrics.reconstruction import Reconstruction
from uniavgen.evaluation.metrics.speaker import SpeakerSimilarity
from uniavgen.evaluation.metrics.speech_quality import SpeechQuality
from uniavgen.evaluation.metrics.subject_consistency import SubjectConsistency
from uniavgen.evaluation.metrics.sync import OwnLipSync
from uniavgen.evaluation.metrics.traits import TraitConsistency
from uniavgen.evaluation.metrics.wer import WordErrorRate, WordErrorRateBase
from uniavgen.perception.face_tracker import FaceTracker
from uniavgen.perception.packages import how_to_install, is_missing
from uniavgen.perception.weights import NETWORKS, ResolvedWeights, WeightResolver, how_to_get

METRICS: Mapping[str, type[Metric]] = {
    metric.name: metric
    for metric in (
        FaceMaskIoU,
        Reconstruction,
        WordErrorRate,
        AudioAesthetics,
        SubjectConsistency,
        DynamicDegree,
        ImagingQuality,
        SyncNetLipSync,
        Judge,
        FrechetInceptionDistance,
        FrechetVideoDistance,
        WordErrorRateBase,
        SpeechQuality,
        SpeakerSimilarity,
        FaceIdentity,
        MouthOpening,
        Motion,
        OwnLipSync,
        TraitConsistency,
    )
}
"""By name, in the order of the report's columns."""


@dataclass(frozen=True, kw_only=True)
class MissingColumn:
    """A column that cannot be computed here."""

    column: Column
    reason: str
    """Why, and how to get it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The metrics of a run."""

    metrics: Sequence[Metric]
    missing: Sequence[MissingColumn]
    networks: Mapping[str, Mapping[str, str]]
    """As `Report.networks`."""

    @property
    def checksums(self) -> dict[str, str]:
        """Returns the sha256 of every network by name."""
        return {name: facts["sha256"] for name, facts in self.networks.items()}


def select_metrics(
    names: Sequence[str],
    resolver: WeightResolver | None = None,
    device: str = "cpu",
    judge: JudgeEndpoint | None = None,
) -> Selection:
    """Builds the metrics with these names or of these groups, all if there are none.

    What cannot be computed is listed with its reason. ConfigError for an unknown name, and where nothing can be
    computed.
    """
    resolver = resolver or WeightResolver()
    groups = [str(group) for group in Group]
    unknown = [name for name in names if name not in (*METRICS, *groups)]
    if unknown:
        raise ConfigError(
            f"there is no metric '{unknown[0]}'; choose among {', '.join(METRICS)} or the groups {', '.join(groups)}"
        )
    classes = [metric for metric in METRICS.values() if not names or {metric.name, str(metric.group)} & {*names}]
    weights: dict[str, ResolvedWeights] = {}
    available: list[type[Metric]] = []
    missing: list[MissingColumn] = []
    for metric in classes:
        # Only a metric that is asked for by its own name may fetch weights from the hub.
        needed = (*metric.required_networks, *metric.optional_networks)
        resolved = {name: resolver.resolve(name, from_hub=metric.name in names) for name in needed}
        weights |= {name: each for name, each in resolved.items() if each is not None}
        reasons = [how_to_get(name) for name in metric.required_networks if resolved[name] is None]
        reasons += [
            f"the package {package} is missing: {how_to_install(package)}"
            for module, package in metric.packages.items()
            if is_missing(module)
        ]
        reasons += [reason] if (reason := metric.unavailable(judge)) else []
        if reasons:
            missing += [MissingColumn(column=column, reason="; ".join(reasons)) for column in metric.columns]
        else:
            available.append(metric)
    if not available:
        reasons = "; ".join(dict.fromkeys(each.reason for each in missing))
        raise ConfigError(f"none of these metrics can be computed here: {reasons}")
    context = MetricContext(weights=weights, faces=FaceTracker(weights), device=device, judge=judge)
    metrics = [metric(context) for metric in available]
    return Selection(metrics=metrics, missing=missing, networks=_network_facts(metrics))


def _network_facts(metrics: Sequence[Metric]) -> dict[str, dict[str, str]]:
    used = dict(item for metric in metrics for item in metric.networks.items())
    return {
        name: {
            "source": weights.label,
            # Networks of our own have the licence of the package.
            "licence": NETWORKS[name].licence if name in NETWORKS else "Apache-2.0",
            "sha256": checksum(weights.path),
        }
        for name, weights in sorted(used.items())
    }
