"""A model's folder is loaded by diffusers' own class, in a process that has not imported this package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.shipping.outside import ROOT

from uniavgen.inference.pipeline import CODE, CODE_FILE

NANO = ROOT / "src" / "uniavgen" / "weights" / "nano"
PROGRAM = f"""
import sys
from diffusers import DiffusionPipeline
folder = {str(NANO)!r}
try:
    DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline")
except ValueError as error:
    assert "trust_remote_code" in str(error)
assert "uniavgen" not in sys.modules
pipeline = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
import uniavgen
assert type(pipeline) is uniavgen.UniAVGenPipeline
assert type(pipeline.transformer) is uniavgen.UniAVGenTransformer
print(pipeline.sampling.steps)
"""


def test_nano_has_the_file_by_which_diffusers_finds_the_pipeline():
    assert (NANO / CODE_FILE).read_text() == CODE


@pytest.mark.slow
def test_nano_is_loaded_by_diffusers_where_its_code_is_trusted(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6"]
    assert Path(tmp_path / "modules" / "diffusers_modules" / "local" / CODE_FILE).read_text() == CODE
