"""Checksums of files and folders."""

import hashlib
from pathlib import Path


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return _file_checksum(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(file.relative_to(path).as_posix().encode())
        digest.update(_file_checksum(file).encode())
    return digest.hexdigest()


def _file_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
