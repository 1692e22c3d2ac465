"""Names of files and of models."""

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from uniavgen.errors import ConfigError

MAX_NAME_BYTES: Final = 255
"""Of one file name, on every file system in use: ext4, XFS, Btrfs, APFS, NTFS."""
MAX_PATH_BYTES: Final = 4095
"""That Linux takes; other systems take fewer or more, and say so."""
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


def check_path_length(path: Path) -> None:
    """Raises ConfigError for a path that no file can have, because it or a name in it is too long."""
    longest = max((len(os.fsencode(name)) for name in path.parts), default=0)
    if longest > MAX_NAME_BYTES:
        raise ConfigError(
            f"the path {str(path)[:100]} has a name of {longest} bytes, at most {MAX_NAME_BYTES} can be stored; give "
            "another path"
        )
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise ConfigError(
            f"the path {str(path)[:100]} has {length} bytes, at most {MAX_PATH_BYTES} can be opened; give another path"
        )


def name_tag(path: Path) -> str:
    """Returns a short name for an output among those of its folder."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
