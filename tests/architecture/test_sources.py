"""What holds for every source file: layers, length, names, and what only applications may do."""

import ast
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FOLDERS = ("src", "tests", "benchmarks", "deploy", "integrations")
EVERYTHING = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
LIBRARY = [path for path in SOURCES if "apps" not in path.parts]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _calls(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_imports_point_down():
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        found = shutil.which("lint-imports")
        assert found, "import-linter is missing: pip install -e '.[dev]'"
        command = Path(found)
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_have_at_most_500_lines():
    long = {_name(path): lines for path in EVERYTHING if (lines := len(path.read_text().splitlines())) > 500}
    assert not long


def test_pyproject_has_the_only_time_limit_of_a_test():
    """A limit near what a test takes on an idle machine fails on a busy one; the suite takes at most nine minutes."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["timeout"] >= 5 * 9 * 60
    limits = []
    for path in EVERYTHING:
        if path.parts[len(ROOT.parts)] != "tests":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                names = [keyword.arg for keyword in node.keywords] + [ast.unparse(node.func)]
                limits += [
                    f"{_name(path)}:{node.lineno}" for name in names if name in ("timeout", "pytest.mark.timeout")
                ]
    assert not limits


def test_names_of_folders_and_files_say_what_they_hold():
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [_name(path) for path in EVERYTHING if drawers & {*path.parent.relative_to(ROOT).parts, path.stem}]


def test_library_neither_prints_nor_exits_nor_seeds_globally():
    forbidden = {"print", "exit", "sys.exit", "input", "torch.manual_seed", "np.random.seed", "random.seed", "hasattr"}
    found = {_name(path): sorted(forbidden & {*_calls(path)}) for path in LIBRARY}
    assert not {name: calls for name, calls in found.items() if calls}


def test_comments_are_ascii():
    found = {}
    for path in SOURCES:
        with path.open("rb") as file:
            comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
        found[_name(path)] = [comment for comment in comments if not comment.isascii()]
    assert not {name: comments for name, comments in found.items() if comments}


def test_modules_have_docstrings():
    silent = [_name(p) for p in SOURCES if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


def test_dependencies_pull_no_cuda_linked_wheels():
    forbidden = {"torchaudio", "torchvision", "torchcodec", "librosa"}
    imported = {
        name.split(".")[0]
        for path in EVERYTHING
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not forbidden & imported


def test_class_names_are_unique():
    """A name that a reader greps for leads to one class."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{_name(path)}:{node.lineno}")
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_imports_have_no_circle():
    """Imports under TYPE_CHECKING and inside functions count too."""
    modules = {_module(path): path for path in SOURCES}
    graph = {module: _imported_modules(path, modules) - {module} for module, path in modules.items()}
    try:
        # The package's own __init__ lists public names that are loaded lazily; files import it for the version.
        TopologicalSorter({module: needed - {"uniavgen"} for module, needed in graph.items()}).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_files_are_short():
    lengths = {_name(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert median(lengths.values()) <= 150


@pytest.mark.parametrize(("folder", "limit"), [("apps/cli", 1700), ("evaluation", 4000)])
def test_folders_that_only_join_parts_stay_small(folder, limit):
    paths = (ROOT / "src" / "uniavgen" / folder).rglob("*.py")
    assert sum(len(path.read_text().splitlines()) for path in paths) <= limit


def test_functions_have_at_most_50_statements():
    long = {
        f"{_name(path)}:{node.lineno}": count
        for path in EVERYTHING
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and (count := sum(isinstance(inner, ast.stmt) for inner in ast.walk(node)) - 1) > 50
    }
    assert not long


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_modules(path: Path, modules: Collection[str]) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` needs the module, `from module import name` the module itself.
            names |= inner & set(modules) or {node.module}
    return names & set(modules)
