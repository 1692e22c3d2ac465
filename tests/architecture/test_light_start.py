"""Starting costs nothing: public names are loaded when they are used."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers")
COMMANDS = ("generate", "continue", "dub", "animate", "serve", "plan", "info", "train", "export", "convert", "evaluate")


def _loaded(program: str, packages: tuple[str, ...] = HEAVY) -> set[str]:
    """Those of `packages` that are imported once `program` has run in a fresh interpreter."""
    report = f"\nimport sys\nprint('LOADED', *[name for name in {packages} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_importing_the_package_loads_nothing_heavy():
    assert _loaded("import uniavgen") == set()


def test_public_names_are_there():
    program = "import uniavgen\nfor name in uniavgen.__all__: assert getattr(uniavgen, name) is not None, name"
    assert "torch" in _loaded(program)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(command):
    program = f"from uniavgen.apps.cli import main\nassert main(['{command}', '--help']) == 0"
    assert _loaded(program) == set()


def test_application_of_the_server_loads_nothing_heavy():
    """Its processes do; the server itself starts at once and stays small."""
    assert _loaded("import uniavgen.apps.server.app") == set()


UNUSED_BY_A_CLIP = (
    "transformers",
    "peft",
    "torch._dynamo",
    "sympy",
    "scipy.stats",
    "scipy.signal",
    "pandas",
    "tensorboard",
)
"""What diffusers and the packages below it would import, and no clip of nano needs."""


def test_generating_a_clip_loads_only_what_it_uses(tmp_path):
    arguments = ["generate", "--device", "cpu", "--image", "examples/person.png", "--speech", "Hello there."]
    arguments += ["--steps", "1", "--guidance", "none", "--num-frames", "17", "--out", str(tmp_path / "clip.mp4")]
    program = f"from uniavgen.apps.cli import main\nassert main({arguments}) == 0"
    assert _loaded(program, UNUSED_BY_A_CLIP) == set()


def test_names_that_diffusers_binds_late_are_the_real_ones_when_used():
    program = """
import uniavgen, sys
from diffusers.loaders import lora_base
from diffusers.pipelines import pipeline_loading_utils
assert "transformers" not in sys.modules
late = pipeline_loading_utils.PreTrainedModel
assert not isinstance(1, late) and "transformers" not in sys.modules
from transformers import PreTrainedModel, UMT5EncoderModel
assert issubclass(UMT5EncoderModel, late)
assert late.from_pretrained.__func__ is PreTrainedModel.from_pretrained.__func__
from diffusers import UniPCMultistepScheduler, FirstBlockCacheConfig, AutoencoderKL
class Sub(late): pass
assert Sub.__mro__[1] is PreTrainedModel
"""
    assert "transformers" in _loaded(program)


def test_diffusers_that_is_imported_first_is_left_as_it_is():
    program = "import diffusers\nfrom diffusers import ModelMixin\nimport uniavgen\nuniavgen.UniAVGenPipeline"
    assert "diffusers" in _loaded(program)
