"""Signed manifests in MP4 and QuickTime files, by C2PA's library: who made a clip, with what, and from which inputs.

The manifest holds the field's words, that the clip was made by a trained model and which inputs it was made from, and
an assertion of our own with task, model, settings and checksums. C2PA's signature covers picture, sound and metadata,
but not the first box of a file and some bytes of the manifest's own box. So that a single changed byte is told
anywhere, the file ends with a box `free` with the checksum of all before it; that is no signature.
"""

import hashlib
import io
import json
import mimetypes
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import uniavgen
from uniavgen.artifacts import first_line
from uniavgen.errors import ConfigError, OutputError
from uniavgen.provenance.signing_key import SigningKey

GENERATOR: Final = "uniavgen"
ASSERTION: Final = "org.uniavgen.generation"
MIME_TYPES: Final = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}
"""Containers that take a manifest, by ending; Matroska takes none."""
SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MADE_BY_AI: Final = SOURCE_TYPES + "trainedAlgorithmicMedia"
PARTLY_MADE_BY_AI: Final = SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
_TRAILER: Final = struct.pack(">I4s8s", 48, b"free", b"uniavgen")
"""Before the 32 bytes of the checksum."""
_PIECE: Final = 2**20
SETTINGS: Final[Mapping[str, Any]] = {
    "builder": {"thumbnail": {"enabled": False}},
    # Nothing is fetched from the network, neither to sign nor to verify.
    "verify": {"ocsp_fetch": False, "remote_manifest_fetch": False},
}


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file that a clip was made from."""

    role: str
    """Such as image or voice."""
    name: str
    sha256: str
    is_kept: bool = False
    """Whether its picture or sound is in the clip as it was."""

    @property
    def mime_type(self) -> str:
        """Returns the type by the ending of the name."""
        return mimetypes.guess_type(self.name)[0] or "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """What a manifest says about a clip."""

    task: str
    model: str
    inputs: Sequence[InputFile] = ()
    marks: Mapping[str, str]
    """Modality to the mark that it carries."""
    settings: Mapping[str, Any]
    """What the clip was made with, JSON values."""
    consent: str | None = None
    """What the user has stated about the person in picture or voice."""


@cache
def find_c2pa() -> ModuleType | None:
    """Returns C2PA's library, None where it is not installed or not for this kind of machine."""
    try:
        import c2pa
    except ImportError:
        return None
    return c2pa


def check_key(key: SigningKey, origin: str) -> None:
    """Signs a picture of one pixel. Raises ConfigError where C2PA refuses the certificates of the key."""
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (1, 1)).save(content, "PNG")
    created = {"action": "c2pa.created", "digitalSourceType": MADE_BY_AI}
    manifest = {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}]}
    library: Any = find_c2pa()
    try:
        _sign(content.getvalue(), "image/png", manifest, key)
    except library.C2paError as error:
        raise ConfigError(
            f"the key {origin} cannot sign a manifest ({first_line(error)}); use one that was issued for C2PA"
        ) from error


def sign_clip(path: Path, record: ClipRecord, key: SigningKey) -> None:
    """Adds a signed manifest to a complete file whose ending is one of MIME_TYPES.

    Raises OutputError where C2PA cannot sign it.
    """
    library: Any = find_c2pa()
    try:
        signed = _sign(path.read_bytes(), MIME_TYPES[path.suffix.lower()], _manifest(record), key)
    except library.C2paError as error:
        raise OutputError(f"the manifest could not be signed ({first_line(error)}); try --no-mark") from error
    path.write_bytes(signed + _TRAILER + hashlib.sha256(signed).digest())


def has_checksum(path: Path) -> bool:
    """Returns whether a file ends with the checksum of all before it, as `sign_clip` has written it."""
    digest_size = hashlib.sha256().digest_size
    left = path.stat().st_size - len(_TRAILER) - digest_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
        return file.read() == _TRAILER + digest.digest()


def _manifest(record: ClipRecord) -> dict[str, Any]:
    agent = {"name": GENERATOR, "version": uniavgen.__version__}
    kept = [each.role for each in record.inputs if each.is_kept]
    others = [each.role for each in record.inputs if not each.is_kept]
    if kept:
        actions = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": kept}},
            {"action": "c2pa.edited", "softwareAgent": agent, "digitalSourceType": PARTLY_MADE_BY_AI,
             "parameters": {"ingredientIds": others}},
        ]  # fmt: skip
    else:
        actions = [
            {"action": "c2pa.created", "softwareAgent": agent, "digitalSourceType": MADE_BY_AI,
             "parameters": {"ingredientIds": others}},
        ]  # fmt: skip
    generation = {
        **asdict(record),
        "inputs": [asdict(each) for each in record.inputs],
        "version": uniavgen.__version__,
    }
    return {
        "claim_generator_info": [agent],
        "ingredients": [_ingredient(each) for each in record.inputs],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": ASSERTION, "data": generation},
        ],
    }


def _ingredient(file: InputFile) -> dict[str, Any]:
    return {
        "label": file.role,
        "title": file.name,
        "description": file.role,
        "format": file.mime_type,
        "instance_id": f"urn:sha256:{file.sha256}",
        "relationship": "parentOf" if file.is_kept else "inputTo",
    }


def _sign(content: bytes, mime_type: str, manifest: Mapping[str, Any], key: SigningKey) -> bytes:
    library: Any = find_c2pa()
    information = library.C2paSignerInfo(key.algorithm.encode(), key.chain_pem, key.private_pem, None)
    signed = io.BytesIO()
    with (
        library.Context(library.Settings.from_dict(dict(SETTINGS))) as context,
        library.Signer.from_info(information) as signer,
        library.Builder(json.dumps(manifest), context) as builder,
    ):
        builder.sign(signer, mime_type, io.BytesIO(content), signed)
    return signed.getvalue()
