"""Files and folders on disk: written whole or not at all and by one process at a time, told apart by checksum, bound to
the settings they hold, and read so that what is wrong with them is said.

Imports nothing heavy, so that every layer and the command line may use it.
"""

from uniavgen.artifacts.arrays import decode_npz
from uniavgen.artifacts.checksums import checksum
from uniavgen.artifacts.error_text import PICKLE_ERRORS, first_line, not_written, os_error_text
from uniavgen.artifacts.json_files import check_regular_file, parse_json, read_json, read_json_lines, read_text
from uniavgen.artifacts.locks import exclusive_output
from uniavgen.artifacts.names import check_path_length, is_hub_name, path_exists
from uniavgen.artifacts.outputs import (
    atomic_file,
    atomic_folder,
    check_output_folder,
    check_writable,
    partial_path,
    publish,
    write_text,
)
from uniavgen.artifacts.recorded_settings import record_settings

__all__ = [
    "PICKLE_ERRORS",
    "atomic_file",
    "atomic_folder",
    "check_output_folder",
    "check_path_length",
    "check_regular_file",
    "check_writable",
    "checksum",
    "decode_npz",
    "exclusive_output",
    "first_line",
    "is_hub_name",
    "not_written",
    "os_error_text",
    "parse_json",
    "partial_path",
    "path_exists",
    "publish",
    "read_json",
    "read_json_lines",
    "read_text",
    "record_settings",
    "write_text",
]
