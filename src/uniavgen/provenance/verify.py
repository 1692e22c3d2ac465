"""Says of a file what can be known about who made it: by its manifest, its marks and its settings.

from uniavgen import verify
verify("clip.mp4").sentence
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import first_line
from uniavgen.errors import ConfigError, MediaError
from uniavgen.media.probe import probe
from uniavgen.media.reader import check_readable
from uniavgen.provenance.find_marks import MarkReport, find_marks
from uniavgen.provenance.manifest import (
    ASSERTION,
    GENERATOR,
    MADE_BY_AI,
    MIME_TYPES,
    PARTLY_MADE_BY_AI,
    SETTINGS,
    find_c2pa,
    has_checksum,
)
from uniavgen.provenance.signing_key import own_key_path, read_key

_NO_FAULT: Final = "signingCredential.untrusted"
"""C2PA's code for a signer that nobody vouches for, which is no change of the file."""

_SEARCHED_BYTES: Final = 2**20
"""At the beginning of a file, where manifests stand."""
_MANIFEST_BOX: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""C2PA's name of the box that holds a manifest. [C2PA 2.1, A.5.1]"""


class ManifestState(StrEnum):
    """What a file's manifest is worth."""

    VALID = "valid"
    """Signed, and the file is as it was signed."""
    BROKEN = "broken"
    """The file or the manifest was changed after it was signed."""
    ABSENT = "absent"
    UNCHECKED = "unchecked"
    """The library that reads manifests is missing."""


class Verdict(StrEnum):
    """What can be said of a file as a whole."""

    SIGNED = "signed"
    """As it was made and signed by this project."""
    CHANGED = "changed"
    """Its manifest does not fit it any more."""
    MARKED = "marked"
    """The manifest is gone, marks are left: encoded anew, cut, or copied by another program."""
    STATED = "stated"
    """Only its settings say that this project made it."""
    SIGNED_BY_OTHERS = "signed by others"
    """A valid manifest of another program."""
    UNKNOWN = "unknown"
    """Nothing says that this project made it."""


@dataclass(frozen=True, kw_only=True)
class ManifestReport:
    """A file's manifest."""

    state: ManifestState
    reasons: Sequence[str] = ()
    """Why it is broken or unchecked, as C2PA's codes."""
    generator: str = ""
    """Program that says it has made the file."""
    signer: str = ""
    is_own_key: bool = False
    """Whether the key of this user has signed it."""
    is_made_by_ai: bool = False
    """Whether it says that the file was made by a trained model, wholly or partly."""
    record: Mapping[str, Any] | None = None
    """What this project has stored: task, model, version, inputs, marks, settings, consent."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is known of a file."""

    verdict: Verdict
    sentence: str
    """The verdict for people."""
    manifest: ManifestReport
    picture: MarkReport
    sound: MarkReport
    settings: Mapping[str, Any] | None
    """As the metadata says, which anybody can write."""

    def lines(self) -> list[str]:
        """Returns the verdict, what the clip was made from, and what each kind of evidence says."""
        record = self.manifest.record or {}
        lines = [self.sentence]
        for each in record.get("inputs", ()):
            kept = ", kept as it was" if each["is_kept"] else ""
            lines.append(f"from {each['role']} {each['name']}, sha256 {each['sha256'][:16]}...{kept}")
        if record.get("consent"):
            lines.append(f"stated about the person: {record['consent']}")
        reasons = f" ({', '.join(self.manifest.reasons)})" if self.manifest.reasons else ""
        signer = f", signed by {self.manifest.signer}" if self.manifest.signer else ""
        lines.append(f"manifest {self.manifest.state}{reasons}{signer}")
        return lines + [
            f"mark in {name}: {mark.text}" for name, mark in (("picture", self.picture), ("sound", self.sound))
        ]


def verify(path: str | Path) -> Provenance:
    """Returns what can be known about who made a file. Raises MediaError for one that is no sound or video.

    Nothing is fetched from the network.
    """
    path = check_readable(Path(path))
    manifest = _read_manifest(path)
    try:
        settings = probe(path).settings
        picture, sound = find_marks(path)
    except MediaError:
        # A signed file that was damaged until it cannot be played still has something to say.
        if manifest.state is not ManifestState.BROKEN:
            raise
        settings, picture, sound = None, *[MarkReport(reason="it cannot be decoded")] * 2
    verdict = _verdict(manifest, picture, sound, settings)
    return Provenance(
        verdict=verdict,
        sentence=_sentence(verdict, manifest, picture, sound),
        manifest=manifest,
        picture=picture,
        sound=sound,
        settings=settings,
    )


def _verdict(
    manifest: ManifestReport, picture: MarkReport, sound: MarkReport, settings: Mapping[str, Any] | None
) -> Verdict:
    if manifest.state is ManifestState.BROKEN:
        return Verdict.CHANGED
    if manifest.state is ManifestState.VALID:
        return Verdict.SIGNED if manifest.record is not None else Verdict.SIGNED_BY_OTHERS
    if picture.is_found or sound.is_found:
        return Verdict.MARKED
    return Verdict.STATED if settings else Verdict.UNKNOWN


def _sentence(verdict: Verdict, manifest: ManifestReport, picture: MarkReport, sound: MarkReport) -> str:
    found = " and ".join(name for name, mark in (("picture", picture), ("sound", sound)) if mark.is_found)
    marks = f"the mark in its {found} is found" if found else "no mark is found"
    program = f"it says that {manifest.generator} made it" if manifest.generator else "it cannot be read"
    key = "the key of this user" if manifest.is_own_key else f"{manifest.signer}, whom nobody here vouches for"
    match verdict:
        case Verdict.SIGNED:
            assert manifest.record is not None
            return (
                f"made by AI with {GENERATOR} {manifest.record['version']}, model {manifest.record['model']}, task "
                f"{manifest.record['task']}; unchanged since it was signed by {key}; {marks}"
            )
        case Verdict.CHANGED:
            return f"changed after it was signed; {program}, which does not hold any more; {marks}"
        case Verdict.MARKED:
            return f"made by AI with {GENERATOR}, then encoded anew, cut or copied without its manifest; {marks}"
        case Verdict.STATED:
            return f"its settings say that {GENERATOR} made it, which nothing proves: no manifest, {marks}"
        case Verdict.SIGNED_BY_OTHERS:
            ai = "made by AI" if manifest.is_made_by_ai else "nothing about AI"
            return f"unchanged since it was signed by {key}; {program} and says: {ai}; {marks} of {GENERATOR}"
        case Verdict.UNKNOWN:
            return f"nothing says that {GENERATOR} made it, which does not prove that it did not"


def _read_manifest(path: Path) -> ManifestReport:
    library: Any = find_c2pa()
    if library is None:
        return ManifestReport(state=ManifestState.UNCHECKED, reasons=("c2pa-python is not installed",))
    with path.open("rb") as file:
        begin = file.read(_SEARCHED_BYTES)
        file.seek(0)
        # By the content, since a file may be named anything.
        mime_type = "video/mp4" if begin[4:8] == b"ftyp" else MIME_TYPES.get(path.suffix.lower())
        if mime_type is None:
            return ManifestReport(state=ManifestState.ABSENT)
        settings, root = dict(SETTINGS), _own_root()
        if root is not None:
            settings["trust"] = {"trust_anchors": root.decode()}
        try:
            with library.Context(library.Settings.from_dict(settings)) as context:
                reader = library.Reader.try_create(mime_type, file, context=context)
                if reader is None:
                    return ManifestReport(state=ManifestState.ABSENT)
                with reader:
                    data = json.loads(reader.json())
        except library.C2paError as error:
            if _MANIFEST_BOX not in begin:
                return ManifestReport(state=ManifestState.ABSENT)
            return ManifestReport(state=ManifestState.BROKEN, reasons=(first_line(error),))
    return _report(data, path)


def _own_root() -> bytes | None:
    try:
        return read_key(own_key_path()).root_pem
    except ConfigError:
        # None was made yet, or it cannot be used; then nothing is one's own.
        return None


def _report(data: Mapping[str, Any], path: Path) -> ManifestReport:
    manifest = data.get("manifests", {}).get(data.get("active_manifest"), {})
    results = data.get("validation_results", {}).get("activeManifest", {})
    faults = [each["code"] for each in results.get("failure", []) if each["code"] != _NO_FAULT]
    assertions = {each["label"]: each["data"] for each in manifest.get("assertions", [])}
    generator = (manifest.get("claim_generator_info") or [{}])[0]
    record = assertions.get(ASSERTION) if generator.get("name") == GENERATOR else None
    if record is not None and not has_checksum(path):
        faults.append("the checksum at the end differs")
    sources = {
        action.get("digitalSourceType")
        for label, each in assertions.items()
        if label.startswith("c2pa.actions")
        for action in each.get("actions", [])
    }
    signature = manifest.get("signature_info", {})
    is_valid = not faults and data.get("validation_state") in ("Valid", "Trusted")
    return ManifestReport(
        state=ManifestState.VALID if is_valid else ManifestState.BROKEN,
        reasons=tuple(faults),
        generator=" ".join(str(generator[key]) for key in ("name", "version") if key in generator),
        signer=str(signature.get("common_name") or signature.get("issuer") or "somebody"),
        is_own_key=data.get("validation_state") == "Trusted",
        is_made_by_ai=bool(sources & {MADE_BY_AI, PARTLY_MADE_BY_AI}),
        record=record,
    )
