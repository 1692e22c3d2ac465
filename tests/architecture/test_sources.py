"""What holds for every source file: layers, length, names, and what only applications may do."""

import ast
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
EVERYTHING = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
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


def test_no_file_is_above_500_lines():
    long = {_name(path): lines for path in EVERYTHING if (lines := len(path.read_text().splitlines())) > 500}
    assert not long


def test_no_folder_or_file_is_a_drawer_for_anything():
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [_name(path) for path in EVERYTHING if drawers & {*path.parent.relative_to(ROOT).parts, path.stem}]


def test_the_library_neither_prints_nor_exits_nor_seeds_globally():
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


def test_every_module_with_content_says_what_it_is():
    silent = [_name(p) for p in SOURCES if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


def test_nothing_pulls_packages_with_cuda_linked_wheels():
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
