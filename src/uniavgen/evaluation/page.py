"""report.html: one page that works from disk, with every clip to watch.

The clips lie inside the page as long as they are small altogether, beside it in `media/` otherwise; the page with its
folder can be moved. The same findings and clips give the same bytes.
"""

import base64
import copy
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.artifacts import atomic_file, write_text
from uniavgen.errors import MediaError
from uniavgen.evaluation.clip import MAX_S
from uniavgen.evaluation.metrics.wer import word_differences
from uniavgen.evaluation.report import Report, encodable
from uniavgen.media.audio import decode_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.sound import SPEECH_RATE_HZ

EMBEDDED_BYTES = 48_000_000
"""Of clips that go into the page itself; browsers read a page of this size in a second. [ours]"""
COLUMNS = 400
"""Of a waveform's picture."""
_TYPES = {".webm": "video/webm", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo"}
_HTML = resources.files("uniavgen.evaluation") / "html"


def write_page(report: Report, folder: Path) -> None:
    """Writes report.html, and what it plays, into `folder`."""
    data = copy.deepcopy(report.data)
    for system in data["systems"].values():
        for clip in system["clips"]:
            clip["differences"] = {
                name.partition("/")[2]: word_differences(detail["script_words"], detail["heard_words"])
                for name, detail in clip["details"].items()
                if name.startswith("transcript/")
            }
    files = {row.sha256: row.file for system in report.systems for row in system.rows if row.file and row.sha256}
    embedded = sum(file.stat().st_size for file in files.values()) <= EMBEDDED_BYTES
    media = {key: _medium(key, file, None if embedded else folder) for key, file in sorted(files.items())}
    text = json.dumps({"report": data, "media": media}, ensure_ascii=False, allow_nan=False)
    page = Template((_HTML / "report.html").read_text()).substitute(
        title=escape(report.title),
        style=(_HTML / "report.css").read_text(),
        script=(_HTML / "report.js").read_text(),
        # Nothing in the data may end the element that holds it.
        data=text.replace("<", "\\u003c"),
    )
    write_text(folder / "report.html", encodable(page))


def peaks(waveform: Float32[np.ndarray, " samples"], columns: int = COLUMNS) -> list[tuple[float, float]]:
    """Returns the least and greatest sample of each column of a waveform's picture."""
    if not len(waveform):
        return []
    edges = np.linspace(0, len(waveform), min(columns, len(waveform)) + 1).astype(int)
    parts = [waveform[start:stop] for start, stop in pairwise(edges)]
    return [(round(float(part.min()), 3), round(float(part.max()), 3)) for part in parts]


def _medium(key: str, file: Path, beside: Path | None) -> dict[str, Any]:
    """Returns how the page plays a clip, and its waveform; without one where the sound cannot be read."""
    name, content = f"media/{key[:16]}{file.suffix.lower()}", file.read_bytes()
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
            sound = decode_audio(reader, SPEECH_RATE_HZ, max_s=MAX_S, trim=True)
        seconds = max(seconds, len(sound) / SPEECH_RATE_HZ)
        wave = peaks(np.pad(sound, (0, max(0, round(seconds * SPEECH_RATE_HZ) - len(sound)))))
    except MediaError:
        pass
    return {"source": source, "seconds": round(seconds, 3), "peaks": wave}
