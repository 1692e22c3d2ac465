"""All metrics: which there are, what they need, and which can be had here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uniavgen.artifacts import checksum
from uniavgen.errors import ConfigError
from uniavgen.evaluation.faces import DETECTOR, MESH, FaceFinder
from uniavgen.evaluation.metric import Column, Metric
from uniavgen.evaluation.metrics import (
    aesthetics,
    dynamic_degree,
    face_mask,
    frechet,
    identity,
    imaging_quality,
    judge,
    lip_sync,
    mesh_mouth,
    motion,
    mouth,
    reconstruction,
    speaker,
    speech_quality,
    subject_consistency,
    sync,
    traits,
    wer,
)
from uniavgen.evaluation.metrics.judge import Endpoint
from uniavgen.evaluation.networks import NETWORKS, Places, Weights, how_to_get
from uniavgen.evaluation.packages import how_to_install, lacks
from uniavgen.evaluation.readers.places import FacePlaces
from uniavgen.evaluation.report import Missing

Found = Mapping[str, Weights]
"""By name of the network."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What metrics are built with, beside their networks."""

    device: str = "cpu"
    mouth_reader: Path | None = None
    judge: Endpoint | None = None
    _finders: dict[str, FaceFinder] = field(default_factory=dict)
    _places: dict[str, FacePlaces] = field(default_factory=dict)

    def faces(self, found: Found) -> FaceFinder:
        """One finder for all metrics that look at faces."""
        return self._finders.setdefault("faces", FaceFinder(found))

    def places(self, found: Found) -> FacePlaces:
        """The same for our own readers, which need no network for it and are better off with the face mesh."""
        at_hand = found.keys() >= {*_FACES} and not any(lacks(module) for module in _FACE_PACKAGES)
        return self._places.setdefault("faces", FacePlaces(self.faces(found) if at_hand else None))

    def endpoint(self) -> Endpoint:
        assert self.judge is not None
        return self.judge


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A metric that may be asked for."""

    name: str
    group: str
    """truth (against a rendered clip), codecs (against the prompt's own pictures), paper (its metrics with its tools)
    or open (what runs offline)."""
    columns: Sequence[Column]
    """What is missing from the table where the metric cannot be had."""
    build: Callable[[Found, Options], Metric]
    networks: Sequence[str] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    """Module to the name it is installed by."""
    helpers: Sequence[str] = ()
    """Networks that are used where they are at hand."""
    lack: Callable[[Options], str] = lambda _: ""
    """What else is missing, half a sentence."""


_FACES = (DETECTOR, MESH)
_FACE_PACKAGES = {"ai_edge_litert": "ai-edge-litert", "cv2": "opencv-python-headless"}
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
            name="reconstruction",
            group="codecs",
            packages={reconstruction.PACKAGE: "scikit-image"},
            columns=reconstruction.COLUMNS,
            build=lambda *_: reconstruction.Reconstruction(),
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
            name="aesthetics",
            group="paper",
            networks=(aesthetics.NETWORK,),
            packages={aesthetics.PACKAGE: aesthetics.PACKAGE},
            columns=aesthetics.COLUMNS,
            build=lambda found, options: aesthetics.AudioAesthetics(found[aesthetics.NETWORK], options.device),
        ),
        Entry(
            name="subject_consistency",
            group="paper",
            networks=(subject_consistency.NETWORK,),
            columns=subject_consistency.COLUMNS,
            build=lambda found, options: subject_consistency.SubjectConsistency(
                found[subject_consistency.NETWORK], options.device
            ),
        ),
        Entry(
            name="dynamic_degree",
            group="paper",
            networks=(dynamic_degree.NETWORK,),
            columns=dynamic_degree.COLUMNS,
            build=lambda found, options: dynamic_degree.DynamicDegree(found[dynamic_degree.NETWORK], options.device),
        ),
        Entry(
            name="imaging_quality",
            group="paper",
            networks=(imaging_quality.NETWORK,),
            packages={"pyiqa": "pyiqa"},
            columns=imaging_quality.COLUMNS,
            build=lambda found, options: imaging_quality.ImagingQuality(found[imaging_quality.NETWORK], options.device),
        ),
        Entry(
            name="lip_sync",
            group="paper",
            networks=(*_FACES, lip_sync.NETWORK),
            packages={**_FACE_PACKAGES, "python_speech_features": "python_speech_features"},
            columns=lip_sync.COLUMNS,
            build=lambda found, options: lip_sync.LipSync(
                options.faces(found), found[lip_sync.NETWORK], options.device
            ),
        ),
        Entry(
            name="judge",
            group="paper",
            columns=judge.columns_of(judge.PAPERS_MODEL),
            build=lambda _, options: judge.Judge(options.endpoint()),
            lack=lambda options: (
                "" if options.judge else "no judge: --judge URL of an endpoint that takes audio and video"
            ),
        ),
        Entry(
            name="fid",
            group="paper",
            networks=(frechet.FID.network,),
            columns=(frechet.FID.column,),
            build=lambda found, options: frechet.FrechetDistance(
                frechet.FID, found[frechet.FID.network], options.device
            ),
        ),
        Entry(
            name="fvd",
            group="paper",
            networks=(frechet.FVD.network,),
            columns=(frechet.FVD.column,),
            build=lambda found, options: frechet.FrechetDistance(
                frechet.FVD, found[frechet.FVD.network], options.device
            ),
        ),
        Entry(
            name="wer_base",
            group="open",
            networks=("whisper-base",),
            packages=_WHISPER_PACKAGES,
            columns=wer.columns_of("whisper-base"),
            build=lambda found, options: wer.WordErrorRate("whisper-base", found["whisper-base"], options.device),
        ),
        Entry(
            name="speech_quality",
            group="open",
            networks=(speech_quality.NETWORK,),
            packages={"onnxruntime": "onnxruntime"},
            columns=speech_quality.COLUMNS,
            build=lambda found, _: speech_quality.SpeechQuality(found[speech_quality.NETWORK]),
        ),
        Entry(
            name="speaker",
            group="open",
            networks=(speaker.NETWORK,),
            packages={"kaldi_native_fbank": "kaldi-native-fbank"},
            columns=speaker.COLUMNS,
            build=lambda found, _: speaker.SpeakerSimilarity(found[speaker.NETWORK]),
        ),
        Entry(
            name="identity",
            group="open",
            networks=(*_FACES, identity.NETWORK),
            packages={**_FACE_PACKAGES, "dlib": "dlib-bin"},
            columns=identity.COLUMNS,
            build=lambda found, options: identity.FaceIdentity(options.faces(found), found[identity.NETWORK]),
        ),
        Entry(
            name="mesh_mouth",
            group="open",
            networks=_FACES,
            packages=_FACE_PACKAGES,
            columns=mesh_mouth.COLUMNS,
            build=lambda found, options: mesh_mouth.MeshMouth(options.faces(found)),
        ),
        Entry(
            name="motion",
            group="open",
            packages={"cv2": "opencv-python-headless"},
            columns=motion.COLUMNS,
            build=lambda *_: motion.Motion(),
        ),
        Entry(
            name="sync",
            group="open",
            columns=sync.COLUMNS,
            helpers=_FACES,
            build=lambda found, options: sync.Sync(options.places(found)),
        ),
        Entry(
            name="traits",
            group="open",
            columns=traits.COLUMNS,
            helpers=_FACES,
            build=lambda found, options: traits.TraitConsistency(options.places(found)),
        ),
    )
}
GROUPS = ("truth", "codecs", "paper", "open")


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
        from_hub = entry.name in wanted
        wanted_networks = (*entry.networks, *entry.helpers)
        found = {name: weights for name in wanted_networks if (weights := places.find(name, from_hub)) is not None}
        reasons = [how_to_get(name) for name in entry.networks if name not in found]
        reasons += [
            f"the package {package} is missing: {how_to_install(package)}"
            for module, package in entry.packages.items()
            if lacks(module)
        ]
        reasons += [reason] if (reason := entry.lack(options)) else []
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
