"""Speech for a vocoder: all audio of a folder of shards or of audio files, held in memory as 16 bit samples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int16

from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError, MediaError
from uniavgen.media.audio import read_audio

SOUND_FILES: Final = ("flac", "opus", "wav")
Samples = Int16[np.ndarray, " samples"]


def read_waveforms(folder: Path, rate_hz: int, min_samples: int, skip: int = 0) -> list[Samples]:
    """Returns mono waveforms of at least `min_samples`, sorted by name, without the first `skip` (left for evaluation).

    Raises DataError for a folder without audio, and for a file that cannot be decoded.
    """
    waveforms = []
    for name, content in _contents(folder, skip):
        try:
            waveform = read_audio(content, rate_hz, name=name)
        except MediaError as error:
            raise DataError(f"the folder {folder} cannot be used: {error}; remove the file or make it again") from error
        if len(waveform) >= min_samples:
            waveforms.append(np.round(waveform.clip(-1, 1) * 32767).astype(np.int16))
    if not waveforms:
        expected = f"expected shards (*.tar) or files (*.{', *.'.join(SOUND_FILES)})"
        raise DataError(f"{folder} holds no sound of {min_samples} samples or more; {expected}")
    return waveforms


def _contents(folder: Path, skip: int) -> Iterator[tuple[str, bytes]]:
    if any(folder.glob("*.tar")):
        shards = ShardSet(folder)
        for i in range(skip, len(shards)):
            part = next((name for name in shards.parts(i) if name in SOUND_FILES), None)
            if part is not None:
                yield f"{shards.keys[i]}.{part}", shards.read(i, part)
        return
    files = sorted(path for path in folder.rglob("*") if path.suffix[1:] in SOUND_FILES)
    for path in files[skip:]:
        yield path.name, path.read_bytes()
