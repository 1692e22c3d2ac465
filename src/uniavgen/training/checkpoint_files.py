"""Checkpoints of runs on disk: whole folders or nothing, in files of torch.distributed.checkpoint (DCP).

A checkpoint `OUT/step-00001000/` holds what each process wrote of its own shards, `shard-*.safetensors`, and
`train.json`, which is written last: step, settings, what decides the samples of a step, and the checksum of every file.
DCP's format of safetensors is used, and not its default, because nothing in it is pickled: a checkpoint of somebody
else cannot run code. Reading takes any number of processes, whatever number has written.
"""

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from uniavgen.artifacts import check_regular_file, checksum, first_line, path_exists, read_json
from uniavgen.distributed import raise_first_error
from uniavgen.errors import CheckpointError, UniAVGenError

PREFIX: Final = "step-"
SETTINGS: Final = "train.json"
MODEL, EMA_WEIGHTS, OPTIMIZER = "model/", "ema/", "optimizer/"
"""What the names of tensors begin with: weights as trained, averaged weights, and `PARAMETER/MOMENT`."""
_REMEDY: Final = "delete this checkpoint to go on from an earlier one, or use another --out"
_OLD_FILE: Final = "optimizer.*"


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """What `train.json` says."""

    step: int
    """Steps done."""
    settings: Mapping[str, Any]
    samples: Mapping[str, Any]
    """What decides which samples a step draws, by the names of settings."""
    files: Mapping[str, str]
    """Name and SHA-256 of each file beside it."""


def checkpoints(folder: Path) -> list[Path]:
    """Returns the complete checkpoints below a folder, oldest first; none where it does not exist.

    Raises CheckpointError where it is something else than a folder.
    """
    if path_exists(folder) and not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder, expected the checkpoints of a run; move it away")
    folders = (path for path in folder.glob(f"{PREFIX}*") if path.is_dir())
    return sorted(folders, key=lambda path: (len(path.name), path.name))


def remove_old(folder: Path, keep: int) -> None:
    """Deletes all but the last `keep` checkpoints, and what a killed process has left of others.

    Only for the process that holds the run: another one's locks would be deleted too.
    """
    for path in (*checkpoints(folder)[:-keep], *folder.glob(f".{PREFIX}*.partial")):
        shutil.rmtree(path)
    for lock in folder.glob(".*.lock"):
        lock.unlink()


def is_checkpoint(folder: Path) -> bool:
    """Returns whether a folder is a checkpoint of a run, damaged ones and those of earlier versions included."""
    return folder.name.startswith(PREFIX) and path_exists(folder / SETTINGS)


def read_record(checkpoint: Path) -> CheckpointRecord:
    """Reads `train.json`. Raises CheckpointError where it is damaged or of an earlier version."""
    file = checkpoint / SETTINGS
    stored = read_json(file, CheckpointError, _REMEDY)
    step = stored.get("step")
    if type(step) is not int or checkpoint.name != f"{PREFIX}{step:08d}":
        raise CheckpointError(f"{file} has the step {step!r}, unlike the folder's name; {_REMEDY}")
    if "files" not in stored and any(checkpoint.glob(_OLD_FILE)):
        raise CheckpointError(
            f"{checkpoint} was saved by an earlier version, whose runs cannot go on; begin another --out with its "
            "finished transformer: --init"
        )
    parts: dict[str, dict[str, Any]] = {
        name: stored[name] for name in ("settings", "samples", "files") if isinstance(stored.get(name), dict)
    }
    missing = [name for name in ("settings", "samples", "files") if name not in parts]
    if missing or not all(isinstance(value, str) for value in parts["files"].values()):
        raise CheckpointError(f"{file} is damaged (it has no {(missing or ['checksums'])[0]}); {_REMEDY}")
    return CheckpointRecord(step=step, **parts)


def check_files(checkpoint: Path, record: CheckpointRecord, group: dist.ProcessGroup | None = None) -> None:
    """Compares every file with its checksum. Raises CheckpointError, on all processes of `group` the same one.

    Each process reads its share of the files.
    """
    rank, world_size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
    error: UniAVGenError | None = None
    try:
        for name in sorted(record.files)[rank::world_size]:
            file = checkpoint / name
            if Path(name).name != name:
                raise CheckpointError(f"{checkpoint / SETTINGS} names the file {name[:60]!r} elsewhere; {_REMEDY}")
            check_regular_file(file, CheckpointError)
            if checksum(file) != record.files[name]:
                raise CheckpointError(f"{file} is damaged (its bytes have another checksum than saved); {_REMEDY}")
        strange = sorted({file.name for file in checkpoint.glob("*.safetensors")} - {*record.files})
        if strange:
            raise CheckpointError(f"{checkpoint} is damaged ({SETTINGS} does not list {strange[0]}); {_REMEDY}")
    except CheckpointError as found:
        error = found
    except OSError as found:
        error = CheckpointError(f"{checkpoint} cannot be read: {first_line(found)}; {_REMEDY}")
    raise_first_error(error, group)


def stored_tensors(checkpoint: Path) -> dict[str, TensorStorageMetadata]:
    """Returns size and type of every tensor by its name. The files are checked already."""
    metadata = dcp.HuggingFaceStorageReader(str(checkpoint)).read_metadata().state_dict_metadata
    return {name: tensor for name, tensor in metadata.items() if isinstance(tensor, TensorStorageMetadata)}


def load_tensors(tensors: dict[str, Tensor], checkpoint: Path, group: dist.ProcessGroup | None = None) -> None:
    """Sets tensors, whole or sharded, to the stored ones of their names. Files and sizes are checked already."""
    quiet_single_process()
    reader = dcp.HuggingFaceStorageReader(str(checkpoint))
    try:
        dcp.load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
    except CheckpointException as error:
        # Not an Exception, so that nobody would see it; what is wrong with files has been found before.
        raise RuntimeError(f"{checkpoint} cannot be loaded") from error


def quiet_single_process() -> None:
    """Silences DCP's warning that there is only one process, which is no surprise here."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
