"""The folder of each job: its inputs while it waits and runs, its clip and pictures afterwards.

It lies on a disk that all replicas share (`JobFiles`), or in a store (`StoredJobFiles`), from which a replica fetches
what it works on.

Names of folders are the ids of jobs, names of files are chosen here; nothing that a client sends is part of a path.
"""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastapi.responses import FileResponse, Response

VIDEO, CONTACT_SHEET, THUMBNAIL = "video.mp4", "video.png", "thumbnail.png"
"""Files of a finished job."""
VARIANTS: Final = {
    "video": (VIDEO, "video/mp4"),
    "thumbnail": (THUMBNAIL, "image/png"),
    "contact_sheet": (CONTACT_SHEET, "image/png"),
    "spritesheet": (CONTACT_SHEET, "image/png"),
}
"""File and media type by the variant that a client asks for; `spritesheet` is OpenAI's name of a contact sheet."""
KEPT: Final = frozenset(name for name, _ in VARIANTS.values())
"""What stays of a job when it has ended."""
ORPHAN_S: Final = 3600.0
"""Age at which a folder without a job is no upload that is under way."""


class JobFiles:
    """The folders of all jobs."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir.absolute() / "jobs"
        self._root.mkdir(parents=True, exist_ok=True)

    def folder(self, job_id: str) -> Path:
        """Returns the folder of a job, which may not exist."""
        return self._root / job_id

    def create(self, job_id: str) -> Path:
        """Makes the folder of a new job, which only this user can read."""
        folder = self.folder(job_id)
        folder.mkdir(mode=0o700)
        return folder

    def publish_inputs(self, job_id: str) -> None:
        """Makes the files that a client gave readable by all replicas."""

    def publish_clip(self, job_id: str) -> None:
        """Makes the clip and its pictures readable by all replicas."""

    def fetch(self, job_id: str) -> Path:
        """Returns the folder of a job with its inputs, to work in."""
        return self.folder(job_id)

    def release(self, job_id: str) -> None:
        """Ends the work in the folder of a job."""

    def copy_clip(self, job_id: str, target: Path) -> bool:
        """Copies the clip of a job to a file; False where there is none."""
        clip = self.folder(job_id) / VIDEO
        if not clip.is_file():
            return False
        shutil.copyfile(clip, target)
        return True

    def answer(
        self,
        job_id: str,
        variant: str,
        byte_range: str | None,  # noqa: ARG002 - FileResponse reads it itself
        headers: dict[str, str],
    ) -> Response | None:
        """Returns the answer that holds a file of a finished job, None where there is none.

        byte_range: the client's Range header.
        """
        name, media_type = VARIANTS[variant]
        path = self.folder(job_id) / name
        if not path.is_file():
            return None
        return FileResponse(path, media_type=media_type, filename=f"{job_id}{path.suffix}", headers=headers)

    def remove(self, job_id: str) -> None:
        """Deletes all files of a job."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def remove_inputs(self, job_id: str) -> None:
        """Deletes everything but the clip and its pictures."""
        for file in self.folder(job_id).glob("*"):
            if file.name not in KEPT:
                file.unlink(missing_ok=True)

    def remove_orphans(self, known: set[str], min_age_s: float = ORPHAN_S) -> None:
        """Deletes folders without a job, which a killed server has left, once they are so old that none is being
        filled."""
        for folder in self.old_folders(min_age_s):
            if folder not in known:
                self.remove(folder)

    def old_folders(self, min_age_s: float) -> list[str]:
        """Returns the names of folders on this machine that were last changed so long ago."""
        old = []
        for folder in self._root.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime >= min_age_s:
                    old.append(folder.name)
        return old
