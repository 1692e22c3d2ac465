"""The folder of each job: its inputs while it waits and runs, its clip and pictures afterwards.

Names of folders are the ids of jobs, names of files are chosen here; nothing that a client sends is part of a path.
"""

import shutil
import time
from pathlib import Path
from typing import Final

VIDEO, CONTACT_SHEET, THUMBNAIL = "video.mp4", "video.png", "thumbnail.png"
"""Files of a finished job."""
VARIANTS: Final = {
    "video": (VIDEO, "video/mp4"),
    "thumbnail": (THUMBNAIL, "image/png"),
    "contact_sheet": (CONTACT_SHEET, "image/png"),
    "spritesheet": (CONTACT_SHEET, "image/png"),
}
"""File and media type by the variant that a client asks for; `spritesheet` is OpenAI's name of a contact sheet."""
_ORPHAN_S: Final = 3600.0
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

    def remove(self, job_id: str) -> None:
        """Deletes all files of a job."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def remove_inputs(self, job_id: str) -> None:
        """Deletes everything but the clip and its pictures."""
        kept = {name for name, _ in VARIANTS.values()}
        for file in self.folder(job_id).glob("*"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def remove_orphans(self, known: set[str], min_age_s: float = _ORPHAN_S) -> None:
        """Deletes folders without a job, which a killed server has left, once they are so old that none is being
        filled."""
        for folder in self._root.iterdir():
            try:
                is_old = time.time() - folder.stat().st_mtime >= min_age_s
            except FileNotFoundError:
                continue
            if is_old and folder.name not in known:
                self.remove(folder.name)
