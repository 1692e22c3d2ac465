"""What stages said, a file for each source and stage: `WORK/records/KEY/STAGE.npz`, whole or not at all.

A record carries the digest of everything that it follows from besides the source: stage version, settings, networks,
and the digests of required stages. One with another digest counts as missing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from uniavgen.artifacts import atomic_file, decode_npz, parse_json
from uniavgen.config import dump
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.errors import DataError

_TEXT: Final = "record"
"""Name of the array that holds the JSON of a record."""


def stage_digests(stages: Sequence[Stage], checksums: Mapping[str, str]) -> dict[str, str]:
    """Returns the digest of each stage's records. checksums: SHA-256 of networks by name.

    stages: in an order in which every stage stands behind those that it requires.
    """
    digests: dict[str, str] = {}
    for stage in stages:
        parts = {
            "name": stage.name,
            "version": stage.version,
            "settings": dump(stage.settings),
            "networks": {name: checksums[name] for name in stage.required_networks},
            "requires": {name: digests[name] for name in stage.requires},
        }
        digests[stage.name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    return digests


@dataclass(frozen=True)
class RecordStore:
    """The records in a work folder."""

    folder: Path

    def load(self, key: str, stage: str, digest: str) -> StageOutput | None:
        """Returns what a stage of this digest said of the source with this key; None where there is no such record."""
        path = self._path(key, stage)
        if not path.is_file():
            return None
        try:
            arrays = decode_npz(path.read_bytes(), str(path))
            text = parse_json(bytes(arrays.pop(_TEXT)), str(path))
            is_current = text["digest"] == digest
            if not is_current or not isinstance(text["values"], dict) or not isinstance(text["reason"], str):
                return None
            return StageOutput(values=text["values"], arrays=arrays, reason=text["reason"])
        except (DataError, KeyError, OSError):
            # A damaged record is made again, as one that is missing.
            return None

    def save(self, key: str, stage: str, digest: str, output: StageOutput) -> None:
        """Writes a record in place of an earlier one. Raises OutputError where the disk refuses."""
        path = self._path(key, stage)
        facts: dict[str, Any] = {"digest": digest, "values": dict(output.values), "reason": output.reason}
        text = json.dumps(facts, sort_keys=True, allow_nan=False)
        with atomic_file(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **{_TEXT: np.frombuffer(text.encode(), np.uint8)}, **output.arrays)

    def folder_of(self, key: str) -> Path:
        """Returns the folder of a source's records."""
        return self.folder / "records" / key

    def _path(self, key: str, stage: str) -> Path:
        return self.folder_of(key) / f"{stage}.npz"
