"""What a work folder remembers besides records: its sources, which stages were run, where clips and pages went to."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import read_json, write_text
from uniavgen.data_engine.fingerprints import Fingerprint
from uniavgen.data_engine.graph import StageGraph
from uniavgen.data_engine.records import RecordStore
from uniavgen.data_engine.rights import RightsReader
from uniavgen.data_engine.source import SourceVideo, UnreadableSource
from uniavgen.data_engine.stage import StageOutput
from uniavgen.errors import DataError

_INDEX: Final = "work.json"


@dataclass(frozen=True)
class WorkFolder:
    """`WORK/work.json` and the records beside it; one process at a time writes it."""

    folder: Path

    def check(self) -> None:
        """Raises DataError where nothing was run here."""
        if not self._path.is_file():
            raise DataError(f"{self.folder} holds no records; make them with `uniavgen data run SOURCES --work ...`")

    def add_run(
        self, graph: StageGraph, sources: Sequence[SourceVideo], unreadable: Sequence[UnreadableSource]
    ) -> None:
        """Remembers the sources of a run beside those of earlier runs, and its stages in place of theirs."""
        index = self._read()
        index["sources"] |= {source.key: str(source.path) for source in sources}
        index["unreadable"] = {str(each.path): each.reason for each in unreadable}
        index["stages"] = {stage.name: graph.digests[stage.name] for stage in graph.stages}
        self._write(index)

    def add_pack(self, shards: Path) -> None:
        """Remembers a folder of shards."""
        index = self._read()
        index["packs"] = sorted({*index["packs"], str(shards.absolute())})
        self._write(index)

    def add_report(self, page: Path) -> None:
        """Remembers a folder or file with pictures and sound of clips."""
        index = self._read()
        index["reports"] = sorted({*index["reports"], str(page.absolute())})
        self._write(index)

    def begin_forgetting(self, keys: Iterable[str], fingerprints: Iterable[Fingerprint]) -> None:
        """Remembers that sources, and copies of what is seen and said in them, must not come back."""
        index = self._read()
        index["forgotten"] = sorted({*index["forgotten"], *keys})
        rows = [dataclasses.asdict(each) for each in fingerprints]
        index["forgotten_content"] += [row for row in rows if row not in index["forgotten_content"]]
        self._write(index)

    def end_forgetting(self) -> None:
        """Removes what names forgotten sources, once everything else of them is gone."""
        index = self._read()
        index["sources"] = {key: path for key, path in index["sources"].items() if key not in index["forgotten"]}
        index["reports"] = []
        self._write(index)

    def sources(self) -> list[SourceVideo]:
        """Returns the sources of all runs by key, with their rights as they stand beside them today."""
        rights, forgotten = RightsReader(), self.forgotten
        paths = {key: path for key, path in self.paths.items() if key not in forgotten}
        return [SourceVideo(path=path, key=key, rights=rights.read(path)) for key, path in paths.items()]

    @property
    def paths(self) -> dict[str, Path]:
        """Returns where each source lies, by key; those of which forgetting was interrupted are among them."""
        return {key: Path(path) for key, path in sorted(self._read()["sources"].items())}

    @property
    def forgotten(self) -> frozenset[str]:
        """Returns the keys of sources that must not come back."""
        return frozenset(self._read()["forgotten"])

    @property
    def forgotten_content(self) -> list[Fingerprint]:
        """Returns what tells copies of forgotten sources."""
        rows = self._read()["forgotten_content"]
        return [Fingerprint(hashes=tuple(row["hashes"]), runs=tuple(row["runs"])) for row in rows]

    @property
    def packs(self) -> list[Path]:
        """Returns the folders of shards that were made of these records."""
        return [Path(path) for path in self._read()["packs"]]

    @property
    def reports(self) -> list[Path]:
        """Returns the pages that show clips of these sources."""
        return [Path(path) for path in self._read()["reports"]]

    @property
    def stages(self) -> list[str]:
        """Returns the names of the stages of the last run, in order."""
        return list(self.digests)

    @property
    def digests(self) -> Mapping[str, str]:
        """Returns the digest of each stage of the last run."""
        return self._read()["stages"]

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Returns the paths that the last run could not open, and why."""
        return self._read()["unreadable"]

    def outputs(self, key: str) -> dict[str, StageOutput]:
        """Returns what the stages of the last run have said of a source, as far as it is recorded."""
        store = RecordStore(self.folder)
        loaded = {name: store.load(key, name, digest) for name, digest in self._read()["stages"].items()}
        return {name: output for name, output in loaded.items() if output is not None}

    @property
    def _path(self) -> Path:
        return self.folder / _INDEX

    def _read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"sources": {}, "unreadable": {}, "stages": {}}
        empty |= {"packs": [], "reports": [], "forgotten": [], "forgotten_content": []}
        return empty | read_json(self._path) if self._path.is_file() else empty

    def _write(self, index: Mapping[str, Any]) -> None:
        write_text(self._path, json.dumps(index, indent=1) + "\n")
