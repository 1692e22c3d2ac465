"""Arrays of an npz file that other programs, or crashes, may have written."""

import io
import lzma
import zipfile
import zlib
from typing import Any

from uniavgen.artifacts.error_text import first_line
from uniavgen.errors import DataError, UniAVGenError


def decode_npz(content: bytes, origin: str, error_class: type[UniAVGenError] = DataError) -> dict[str, Any]:
    """Returns name to array of the bytes of an npz file. Raises `error_class` where they are damaged or pickled.

    `origin` names the file in the error.
    """
    import numpy as np

    try:
        stored = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise error_class(f"{origin} holds a single array, expected an npz file; make it again")
        return dict(stored)
    # What numpy, zipfile (RuntimeError for a flag that says encrypted) and its decompressors raise for flipped bits.
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        raise error_class(f"{origin} is damaged ({first_line(error)}); make it again") from error
