"""Folders of jobs in a store that fsspec reaches, such as S3; what is worked on lies on this machine meanwhile."""

import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fastapi.responses import Response, StreamingResponse

from uniavgen.apps.server.job_files import KEPT, ORPHAN_S, VARIANTS, VIDEO, JobFiles
from uniavgen.data.storage import Storage

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_INPUTS: Final = "inputs"
_CHUNK: Final = 2**20
"""Bytes that are read from the store at once."""
_LIST_S: Final = 600.0
"""Shortest time between two lists of the whole store."""


class StoredJobFiles(JobFiles):
    """The folders of all jobs. Raises DataError where the store cannot be used."""

    def __init__(self, data_dir: Path, url: str) -> None:
        super().__init__(data_dir)
        self._store = Storage(f"{url.rstrip('/')}/jobs")
        self._listed_at = 0.0
        self._check_writing(data_dir)

    def publish_inputs(self, job_id: str) -> None:
        """Copies the files that a client gave to the store."""
        for file in self.folder(job_id).iterdir():
            # A video that is dubbed has the name of the clip to come.
            self._store.upload(file, self._path(job_id, f"{_INPUTS}/{file.name}"))
        self.release(job_id)

    def publish_clip(self, job_id: str) -> None:
        """Copies the clip and its pictures to the store."""
        for file in self.folder(job_id).iterdir():
            if file.name in KEPT:
                self._store.upload(file, self._path(job_id, file.name))

    def fetch(self, job_id: str) -> Path:
        """Copies the inputs of a job to this machine."""
        self.release(job_id)
        folder = self.create(job_id)
        for file in self._store.list_tree(self._path(job_id, _INPUTS)):
            self._store.fetch(file.path, folder / file.name)
        return folder

    def release(self, job_id: str) -> None:
        """Deletes what lies on this machine."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def copy_clip(self, job_id: str, target: Path) -> bool:
        """Copies the clip of a job from the store; False where there is none."""
        path = self._path(job_id, VIDEO)
        if self._store.find(path) is None:
            return False
        self._store.fetch(path, target)
        return True

    def answer(self, job_id: str, variant: str, byte_range: str | None, headers: dict[str, str]) -> Response | None:
        """Returns an answer that passes on what the store sends."""
        name, media_type = VARIANTS[variant]
        path = self._path(job_id, name)
        found = self._store.find(path)
        if found is None:
            return None
        suffix = name.rpartition(".")[2]
        headers = {**headers, "Accept-Ranges": "bytes"}
        headers["Content-Disposition"] = f'attachment; filename="{job_id}.{suffix}"'
        part = find_range(byte_range, found.size)
        if part is not None and not part:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{found.size}"})
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{found.size}"
        sent = range(found.size) if part is None else part
        headers["Content-Length"] = str(len(sent))
        return StreamingResponse(self._chunks(path, sent), 200 if part is None else 206, headers, media_type)

    def remove(self, job_id: str) -> None:
        """Deletes all files of a job, in the store and here."""
        self.release(job_id)
        self._store.remove(self._path(job_id, "").rstrip("/"))

    def remove_inputs(self, job_id: str) -> None:
        """Deletes what the client gave."""
        self._store.remove(self._path(job_id, _INPUTS))

    def remove_orphans(self, known: set[str], min_age_s: float = ORPHAN_S) -> None:
        """Deletes folders without a job, here at each call, in the store every ten minutes."""
        for folder in self.old_folders(min_age_s):
            if folder not in known:
                self.release(folder)
        if time.monotonic() - self._listed_at < _LIST_S:
            return
        self._listed_at = time.monotonic()
        written: dict[str, float] = {}
        for file in self._store.list_tree():
            job_id = file.path.removeprefix(self._store.path("")).partition("/")[0]
            written[job_id] = max(written.get(job_id, 0.0), file.modified_s)
        for job_id, modified_s in written.items():
            if job_id not in known and time.time() - modified_s >= min_age_s:
                self.remove(job_id)

    def _check_writing(self, data_dir: Path) -> None:
        """Writes and deletes a file, so that a wrong URL is told before anything is served."""
        with TemporaryDirectory(dir=data_dir) as folder:
            name = secrets.token_hex(8)
            (Path(folder) / name).touch()
            self._store.upload(Path(folder) / name, self._path("check", name))
            self._store.remove(self._path("check", name))

    def _path(self, job_id: str, name: str) -> str:
        return self._store.path(f"{job_id}/{name}")

    def _chunks(self, path: str, sent: range) -> Iterator[bytes]:
        for begin in range(sent.start, sent.stop, _CHUNK):
            yield self._store.read(path, begin, min(begin + _CHUNK, sent.stop))


def find_range(header: str | None, size: int) -> range | None:
    """Returns the bytes that a Range header asks for, which may be none, or None where it asks for no single range:
    then the whole file is sent, as HTTP allows."""
    found = _RANGE.fullmatch(header or "")
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return range(max(size - int(found[2]), 0), size)
    first, last = int(found[1]), int(found[2] or size)
    return range(first, min(last + 1, size)) if first <= last or first >= size else None
