"""Wrong types of arguments are errors of the user with the field's name; the tests' own type checks look elsewhere."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uniavgen.arguments import check_arguments
from uniavgen.errors import ConfigError


@dataclass(frozen=True)
class Part:
    pass


@dataclass(frozen=True, kw_only=True)
class Options:
    text: str = ""
    count: int = 1
    factor: float | None = None
    switch: bool = False
    file: Path | None = None
    names: Sequence[str] = ()
    size: tuple[int, int] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    part: Part | None = None
    frames: np.ndarray | None = None
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_arguments(self)


@pytest.mark.parametrize(
    "argument",
    [
        {},
        {"count": np.int64(3), "factor": 2},
        {"factor": np.float32(0.5)},
        {"factor": Fraction(1, 2), "names": ["a"], "size": (1, 2), "values": {"a": 1}},
        {"file": Path("x"), "part": Part(), "switch": True},
        {"frames": "checked elsewhere"},
    ],
)
def test_arguments_of_the_annotated_types_are_taken(argument):
    Options(**argument)


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("text", None, "text is a text, got None"),
        ("text", b"x", "text is a text, got b'x'"),
        ("count", 1.0, "count is a whole number, got 1.0"),
        ("count", True, "count is a whole number, got True"),
        ("count", "5", "count is a whole number, got '5'"),
        ("factor", "24", "factor is a number or None, got '24'"),
        ("factor", False, "factor is a number or None, got False"),
        ("switch", "yes", "switch is True or False, got 'yes'"),
        ("switch", 1, "switch is True or False, got 1"),
        ("file", "x.png", "file is a pathlib.Path or None, got 'x.png'"),
        ("names", "wer", "names is a list, got 'wer'"),
        ("size", [1, 2], "size is a tuple or None, got"),
        ("values", [], "values is a mapping, got"),
        ("part", {}, "part is a Part or None, got"),
        ("secret", b"hidden", "secret is a text, got a bytes;"),
        ("text", list(range(10_000)), "text is a text, got"),
    ],
)
def test_argument_of_another_type_is_refused_by_name(name, argument, expected):
    with pytest.raises(ConfigError) as error:
        Options(**{name: argument})
    assert str(error.value).startswith(expected)
    assert len(str(error.value)) < 200


def test_public_classes_refuse_arguments_of_other_types():
    calls = (
        "LoadConfig(vram='24')",
        "LoadConfig(lora='me.safetensors')",
        "LoadConfig(lora=[0.5])",
        "LoadConfig(device=3)",
        "LoadConfig(cache='little')",
        "LoadConfig(compile='yes')",
        "Request(task='joint', trim='yes', speech='Hi.', image=np.zeros((64, 64, 3), np.uint8))",
        "Request(task='joint', sampling=[1], speech='Hi.', image=np.zeros((64, 64, 3), np.uint8))",
        "GenerateJob(image='face.png')",
        "GenerateJob(image=Path('face.png'), num_frames='17')",
        "EvaluationConfig(prompts='set', out=Path('out'))",
        "EvaluationConfig(prompts=Path('set'), out=Path('out'), metrics='wer')",
        "SetConfig(num_frames='17')",
        "FeatureSettings(num_frames='17')",
        "WorldSettings(size='128')",
        "WorldSettings(speech='folder')",
        "JudgeEndpoint(url=5, model='m')",
        "load_pipeline('nano', vram='24')",
    )
    code = f"""
from pathlib import Path
import numpy as np
from uniavgen.errors import ConfigError
from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
from uniavgen.inference.request import Request
from uniavgen.synth import WorldSettings
from uniavgen.workflows.clip_jobs import GenerateJob
from uniavgen.workflows.evaluate import EvaluationConfig
from uniavgen.workflows.generate_set import SetConfig
from uniavgen.workflows.load import load_pipeline
from uniavgen.workflows.load_config import LoadConfig
from uniavgen.workflows.prepare import FeatureSettings
for call in {calls!r}:
    try:
        eval(call)
    except ConfigError:
        continue
    print(call)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    # Where torchao is installed, transformers imports it, and it says on stderr which of its libraries do not load.
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
