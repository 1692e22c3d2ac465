"""Starting costs nothing: public names are loaded when they are used."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers")
COMMANDS = ("generate", "continue", "dub", "animate", "plan", "info", "train", "export", "convert", "evaluate")


def _loaded(program: str) -> set[str]:
    """Heavy packages that are imported once `program` has run in a fresh interpreter."""
    report = f"\nimport sys\nprint('LOADED', *[name for name in {HEAVY} if name in sys.modules])"
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
