"""The settings that a folder is made with, so that a later run goes on with the same ones or is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uniavgen.artifacts.json_files import read_json
from uniavgen.artifacts.outputs import write_text
from uniavgen.errors import DataError


def record_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings that the folder of `path` is made with, so that a second run continues with the same ones.

    Raises DataError where the file exists and holds other settings.
    """
    text = json.dumps(dict(settings), indent=1, sort_keys=True) + "\n"
    if not path.is_file():
        write_text(path, text)
        return
    earlier = read_json(path, remedy="name another folder")
    # Compared as JSON: tuples and lists are the same thing in a file.
    current = json.loads(text)
    changed = sorted(key for key in {*earlier, *current} if earlier.get(key) != current.get(key))
    if changed:
        raise DataError(
            f"{path.parent} was made with another {', '.join(changed)}; name another folder or the same options"
        )
