"""Names of files and of models."""

import hashlib
import os
import re
from pathlib import Path
from typing import Final

MAX_NAME_BYTES: Final = 255
"""Of one file name, on every file system in use: ext4, XFS, Btrfs, APFS, NTFS."""
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_name(text: str) -> bool:
    """Returns whether a text could be OWNER/NAME on the Hugging Face hub."""
    return _HUB_NAME.fullmatch(text) is not None


def path_exists(path: Path) -> bool:
    """Returns whether there is something at `path`; False also for names that no file system could hold."""
    try:
        # Not `exists`: a link into nothing, or in a circle, is there too, and what is wrong with it is said later.
        os.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def name_tag(path: Path) -> str:
    """Returns a short name for an output among those of its folder."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
