"""Documents keep their word: links lead somewhere, named tests and files exist, examples run, commands are real."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def _tests(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", DOCS, ids=_name)
def test_links_lead_to_files(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert not [target for target in local if not (path.parent / target).exists()]


@pytest.mark.parametrize("path", DOCS, ids=_name)
def test_named_files_and_tests_exist(path):
    """Backticked `src/...`, `tests/...py` and `tests/...py::test_name`."""
    named = re.findall(r"`((?:src|tests|docs|runs|benchmarks|examples)/[^`\s*]+)`", path.read_text())
    missing = []
    for name in named:
        file, _, test = name.partition("::")
        if not (ROOT / file).exists() or (test and test not in _tests(ROOT / file)):
            missing.append(name)
    assert not missing


@pytest.mark.parametrize("path", DOCS, ids=_name)
def test_named_modules_exist(path):
    """Backticked `package/module.py` and `package/module.py: name`, relative to the package."""
    missing = []
    for file, name in re.findall(r"`([a-z_0-9/]+\.py)(?:: ([A-Za-z_]\w*))?`", path.read_text()):
        if file.startswith(("src/", "tests/", "benchmarks/", "examples/")):
            continue
        source = ROOT / "src" / "uniavgen" / file
        if not source.is_file() or (name and not re.search(rf"\b{name}\b", source.read_text())):
            missing.append(f"{file}: {name}")
    assert not missing


PAGES = [path for path in DOCS if path.name != "README.md" and path.parent.name != "guides"]
PYTHON = [(path, number, block) for path in PAGES for number, block in enumerate(_blocks(path, "python"))]


@pytest.mark.parametrize(("path", "number", "block"), PYTHON, ids=[f"{_name(p)}-{n}" for p, n, _ in PYTHON])
def test_python_examples_run(path, number, block, tmp_path):
    """Blocks marked `# not run:` with a reason on their first line are only parsed."""
    ast.parse(block)
    if block.startswith("# not run:"):
        return
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCS, ids=_name)
def test_commands_and_options_are_real(path):
    import typer.core
    from typer.main import get_command

    from uniavgen.apps.cli import app

    group = get_command(app)
    context = typer.Context(group)
    wrong = []
    shell = "\n".join(_blocks(path, "sh") + _blocks(path, "bash") + _blocks(path, "shell")).replace("\\\n", " ")
    for line in re.findall(r"^uniavgen (.*)$", shell, re.MULTILINE):
        name, *rest = line.split("#")[0].split()
        command = group.get_command(context, name)
        if isinstance(command, typer.core.TyperGroup):
            command = command.get_command(typer.Context(command), rest.pop(0))
        if command is None:
            wrong.append(f"uniavgen {name}")
            continue
        known = {option for parameter in command.params for option in parameter.opts}
        wrong += [f"uniavgen {name} {word}" for word in rest if re.match(r"--?[a-z]", word) and word not in known]
    assert not wrong


def test_readme_fits_a_sitting():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


LINE, CELL = 140, 160
"""Characters a line of prose and a cell of a table may have."""


@pytest.mark.parametrize("path", [*DOCS, ROOT / "CHANGELOG.md"], ids=_name)
def test_lines_and_table_cells_are_short(path):
    """Link targets do not count in a cell; nothing in a table counts as a line."""
    fenced, long = False, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            cells = (re.sub(r"\]\([^)]*\)", "]", cell.strip()) for cell in line.strip("|").split("|"))
            long += [f"line {number}: {cell}" for cell in cells if len(cell) > CELL]
        elif len(line) > LINE:
            long.append(f"line {number}: {line}")
    assert not long


def test_tables_equal_their_json():
    done = subprocess.run(
        [sys.executable, "docs/render.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run python docs/render.py: {done.stdout}{done.stderr}"


RUN = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=_name)
def test_pages_run(path, tmp_path):
    """Every block of the guides and of the README, in order, as a reader would run them."""
    script = Path(__file__).with_name("run_page.py")
    done = subprocess.run(
        [sys.executable, str(script), str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
