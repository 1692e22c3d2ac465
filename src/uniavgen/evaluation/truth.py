"""The rendered truth of a prompt."""

from functools import lru_cache
from pathlib import Path

from uniavgen.data.rendered import RenderedTruth, read_truth
from uniavgen.errors import DataError
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.errors import NotMeasured


def truth_of(prompt: Prompt) -> RenderedTruth:
    """Returns the truth of a prompt; NotMeasured where it has none that can be read."""
    if prompt.truth is None:
        raise NotMeasured("the prompt has no truth")
    try:
        return _read(prompt.truth)
    except (DataError, OSError) as error:
        raise NotMeasured(str(error)) from error


@lru_cache(maxsize=4)
def _read(path: Path) -> RenderedTruth:
    # A mask of a clip is some megabytes, and a control asks for two truths by turns.
    return read_truth(path.read_bytes(), path.name)
