"""Binds a folder of results to the settings they are made with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uniavgen.artifacts import whole_file
from uniavgen.errors import DataError


def claim(path: Path, settings: Mapping[str, Any]) -> None:
    """Remember `settings` in the file `path`; DataError where its folder was made with others."""
    text = json.dumps(dict(settings), indent=1, sort_keys=True) + "\n"
    if path.is_file():
        before, now = json.loads(path.read_text()), json.loads(text)
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            raise DataError(
                f"{path.parent} was made with another {', '.join(changed)}; name another folder or the same options"
            )
        return
    with whole_file(path) as partial:
        partial.write_text(text)
