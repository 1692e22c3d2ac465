"""What a work folder remembers besides records: its sources, which stages were run, where clips and pages went to."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from uniavgen.artifacts import path_exists, read_json, write_text
from uniavgen.config import Config, dump, parse
from uniavgen.data_engine.fingerprints import Fingerprint
from uniavgen.data_engine.given import GivenReader
from uniavgen.data_engine.graph import StageGraph
from uniavgen.data_engine.records import RecordStore
from uniavgen.data_engine.source import SourceVideo, UnreadableSource
from uniavgen.data_engine.stage import StageOutput
from uniavgen.errors import ConfigError, DataError

_INDEX: Final = "work.json"
_REMEDY: Final = "restore it, or name another --work"
_KEY: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class WorkIndex(Config):
    """What `work.json` says."""

    sources: dict[str, str] = field(default_factory=dict)
    """Key to path."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Path to the reason, of the last run."""
    stages: dict[str, str] = field(default_factory=dict)
    """Name to digest, of the last run."""
    tables: tuple[str, ...] = ()
    """Lists of clips that were given as sources."""
    packs: tuple[str, ...] = ()
    """Folders of shards."""
    reports: tuple[str, ...] = ()
    """Folders or files with pictures and sound of clips."""
    forgotten: tuple[str, ...] = ()
    """Keys of sources that must not come back."""
    forgotten_content: tuple[dict[str, tuple[str, ...]], ...] = ()
    """The fields of each `Fingerprint` of theirs."""

    def __post_init__(self) -> None:
        # A key is also the name of a folder, which `forget` deletes.
        wrong = next((key for key in (*self.sources, *self.forgotten) if not _KEY.fullmatch(key)), None)
        if wrong is not None:
            raise ConfigError(f"'{wrong[:60]}' is no key of a source, which has 32 hexadecimal digits")
        if any({*row} != {*Fingerprint.__annotations__} for row in self.forgotten_content):
            raise ConfigError(f"forgotten_content has rows without {' and '.join(Fingerprint.__annotations__)}")


@dataclass(frozen=True)
class WorkFolder:
    """`WORK/work.json` and the records beside it; one process at a time writes it."""

    folder: Path

    def check(self) -> None:
        """Raises DataError where nothing was run here."""
        if not path_exists(self._path):
            raise DataError(f"{self.folder} holds no records; make them with `uniavgen data run SOURCES --work ...`")

    def add_run(
        self,
        graph: StageGraph,
        sources: Sequence[SourceVideo],
        unreadable: Sequence[UnreadableSource],
        tables: Iterable[Path] = (),
    ) -> None:
        """Remembers the sources of a run and the lists of clips beside those of earlier runs, and its stages."""
        index = self._read()
        sources_by_key = index.sources | {source.key: str(source.path) for source in sources}
        reasons = {str(each.path): each.reason for each in unreadable}
        digests = {stage.name: graph.digests[stage.name] for stage in graph.stages}
        lists = tuple(sorted({*index.tables, *(str(table.absolute()) for table in tables)}))
        self._write(replace(index, sources=sources_by_key, unreadable=reasons, stages=digests, tables=lists))

    def add_pack(self, shards: Path) -> None:
        """Remembers a folder of shards."""
        index = self._read()
        self._write(replace(index, packs=tuple(sorted({*index.packs, str(shards.absolute())}))))

    def add_report(self, page: Path) -> None:
        """Remembers a page with pictures and sound of clips, one file."""
        index = self._read()
        self._write(replace(index, reports=tuple(sorted({*index.reports, str(page.absolute())}))))

    def begin_forgetting(self, keys: Iterable[str], fingerprints: Iterable[Fingerprint]) -> None:
        """Remembers that sources, and copies of what is seen and said in them, must not come back."""
        index = self._read()
        rows = [{"hashes": tuple(each.hashes), "runs": tuple(each.runs)} for each in fingerprints]
        content = (*index.forgotten_content, *(row for row in rows if row not in index.forgotten_content))
        self._write(replace(index, forgotten=tuple(sorted({*index.forgotten, *keys})), forgotten_content=content))

    def end_forgetting(self) -> None:
        """Removes what names forgotten sources, once everything else of them is gone."""
        index = self._read()
        sources = {key: path for key, path in index.sources.items() if key not in index.forgotten}
        self._write(replace(index, sources=sources, reports=()))

    def sources(self) -> list[SourceVideo]:
        """Returns the sources of all runs by key, with their rights and what is given as it stands there today."""
        reader, forgotten = GivenReader([Path(table) for table in self._read().tables]), self.forgotten
        found = []
        for key, path in self.paths.items():
            if key not in forgotten:
                rights, given = reader.read(path)
                found.append(SourceVideo(path=path, key=key, rights=rights, given=given))
        return found

    @property
    def paths(self) -> dict[str, Path]:
        """Returns where each source lies, by key; those of which forgetting was interrupted are among them."""
        return {key: Path(path) for key, path in sorted(self._read().sources.items())}

    @property
    def forgotten(self) -> frozenset[str]:
        """Returns the keys of sources that must not come back."""
        return frozenset(self._read().forgotten)

    @property
    def forgotten_content(self) -> list[Fingerprint]:
        """Returns what tells copies of forgotten sources."""
        return [Fingerprint(**row) for row in self._read().forgotten_content]

    @property
    def packs(self) -> list[Path]:
        """Returns the folders of shards that were made of these records."""
        return [Path(path) for path in self._read().packs]

    @property
    def reports(self) -> list[Path]:
        """Returns the pages that show clips of these sources."""
        return [Path(path) for path in self._read().reports]

    @property
    def stages(self) -> list[str]:
        """Returns the names of the stages of the last run, in order."""
        return list(self.digests)

    @property
    def digests(self) -> Mapping[str, str]:
        """Returns the digest of each stage of the last run."""
        return self._read().stages

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Returns the paths that the last run could not open, and why."""
        return self._read().unreadable

    def outputs(self, key: str) -> dict[str, StageOutput]:
        """Returns what the stages of the last run have said of a source, as far as it is recorded."""
        store = RecordStore(self.folder)
        loaded = {name: store.load(key, name, digest) for name, digest in self._read().stages.items()}
        return {name: output for name, output in loaded.items() if output is not None}

    @property
    def _path(self) -> Path:
        return self.folder / _INDEX

    def _read(self) -> WorkIndex:
        if not path_exists(self._path):
            return WorkIndex()
        return parse(WorkIndex, read_json(self._path, remedy=_REMEDY), str(self._path))

    def _write(self, index: WorkIndex) -> None:
        write_text(self._path, json.dumps(dump(index), indent=1) + "\n")
