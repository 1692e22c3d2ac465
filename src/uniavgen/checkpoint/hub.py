"""Published weights from the Hugging Face hub, through its own client: cached, resumed, checked."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError

_PAUSES_S: Final = (1.0, 4.0)
"""Between attempts. The client itself tries each file several times; this is for a lost connection."""


def fetch(
    name: str,
    patterns: Sequence[str],
    revision: str | None = None,
    offline: bool = False,
    on_retry: Callable[[str], None] = lambda _: None,
) -> Path:
    """Returns the folder of a repository's files that match `patterns`, downloaded where they are not in the cache yet.

    An interrupted download is continued. The folder is named after the commit.
    offline: looks into the cache only. Raises CheckpointError with what the hub says in one sentence.
    """
    from huggingface_hub import errors, snapshot_download

    definite = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
    for pause in (*_PAUSES_S, None):
        try:
            snapshot = snapshot_download(
                name, revision=revision, allow_patterns=list(patterns), local_files_only=offline
            )
            return Path(snapshot)
        except (errors.HFValidationError, *definite) as error:
            raise CheckpointError(_refused(name, revision, error)) from error
        except OSError as error:
            if offline:
                raise CheckpointError(
                    f"{name} is not complete in the hub's cache on this machine; leave out --offline or --dry-run "
                    "once, or give a folder"
                ) from error
            if pause is None:
                raise CheckpointError(
                    f"{name} could not be fetched from the hub ({_quoted(error)}); check the network and give the "
                    "same command again, which goes on where this one stopped, or give a folder"
                ) from error
            on_retry(_quoted(error))
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _refused(name: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return f"{name} asks for consent first: accept its terms on its page, then log in with `hf auth login`"
        case errors.RevisionNotFoundError():
            return f"{name} has no revision '{revision}'; leave out --revision or choose another"
        case errors.RepositoryNotFoundError():
            return f"there is no {name} on the hub, or it is private; check the name, or log in with `hf auth login`"
    return f"'{name}' is no name on the hub ({_quoted(error)}); expected OWNER/NAME"


def _quoted(error: Exception) -> str:
    return first_line(error).removeprefix("Got: ").rstrip(".")
