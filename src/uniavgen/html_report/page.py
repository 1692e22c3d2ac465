"""One page of HTML that works from disk, with every clip to watch.

The clips lie inside the page as long as they are small altogether, beside it in `media/` otherwise; the page with its
folder can be moved. The same data and clips give the same bytes.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.artifacts import atomic_file, write_text
from uniavgen.errors import MediaError
from uniavgen.media.audio import decode_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.sound import SPEECH_RATE_HZ

EMBEDDED_BYTES = 48_000_000
"""Of clips that go into the page itself; browsers read a page of this size in a second. [ours]"""
COLUMNS = 400
"""Of a waveform's picture."""
MAX_WAVEFORM_S = 30.0
_TYPES = {".webm": "video/webm", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo"}
_HTML = resources.files("uniavgen.html_report") / "html"


@dataclass(frozen=True, kw_only=True)
class PageSource:
    """What a kind of page adds to the common one: `NAME.html` (its body), `NAME.css` and `NAME.js` of a folder.

    The script finds its data in `data`, with the clips in `data.media`, and the functions of page.js.
    """

    folder: Traversable
    name: str

    def read(self, suffix: str) -> str:
        """Returns the text of one of the three files."""
        return (self.folder / f"{self.name}{suffix}").read_text()


def write_page(
    path: Path,
    source: PageSource,
    title: str,
    data: Mapping[str, Any],
    files: Mapping[str, Path],
    max_embedded_bytes: int | None = None,
) -> None:
    """Writes a page, and what it plays, into the folder of `path`.

    data: JSON values. files: clips by the names under which the script plays them, which are file names, too.
    max_embedded_bytes: more bytes of clips lie beside the page; None for no matter how many.
    """
    size = sum(file.stat().st_size for file in files.values())
    embedded = max_embedded_bytes is None or size <= max_embedded_bytes
    media = {key: _medium(key, file, None if embedded else path.parent) for key, file in sorted(files.items())}
    text = json.dumps({**data, "media": media}, ensure_ascii=False, allow_nan=False)
    page = Template((_HTML / "page.html").read_text()).substitute(
        title=escape(title),
        style=(_HTML / "page.css").read_text() + source.read(".css"),
        body=source.read(".html"),
        script=(_HTML / "page.js").read_text() + source.read(".js"),
        # Nothing in the data may end the element that holds it.
        data=text.replace("<", "\\u003c"),
    )
    write_text(path, encodable(page))


def encodable(text: str) -> str:
    """Returns a text in which bytes of file names that are not UTF-8 are escapes, as JSON has them."""
    return text.encode(errors="backslashreplace").decode()


def peaks(waveform: Float32[np.ndarray, " samples"], columns: int = COLUMNS) -> list[tuple[float, float]]:
    """Returns the least and greatest sample of each column of a waveform's picture."""
    if not len(waveform):
        return []
    edges = np.linspace(0, len(waveform), min(columns, len(waveform)) + 1).astype(int)
    parts = [waveform[start:stop] for start, stop in pairwise(edges)]
    return [(round(float(part.min()), 3), round(float(part.max()), 3)) for part in parts]


def _medium(key: str, file: Path, beside: Path | None) -> dict[str, Any]:
    """Returns how the page plays a clip, and its waveform; without one where the sound cannot be read."""
    name, content = f"media/{key}{file.suffix.lower()}", file.read_bytes()
    if beside is None:
        kind = _TYPES.get(file.suffix.lower(), "video/mp4")
        source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    else:
        source = name
        if not (beside / name).is_file():
            with atomic_file(beside / name) as partial:
                partial.write_bytes(content)
    wave: Sequence[tuple[float, float]] = ()
    seconds = 1.0
    try:
        with open_media(content, quiet=True) as reader:
            seconds = (reader.video and reader.declared_s(reader.video)) or seconds
            sound = decode_audio(reader, SPEECH_RATE_HZ, max_s=MAX_WAVEFORM_S, trim=True)
        seconds = max(seconds, len(sound) / SPEECH_RATE_HZ)
        wave = peaks(np.pad(sound, (0, max(0, round(seconds * SPEECH_RATE_HZ) - len(sound)))))
    except MediaError:
        pass
    return {"source": source, "seconds": round(seconds, 3), "peaks": wave}
