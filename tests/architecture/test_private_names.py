"""What diffusers, transformers and torch keep private is used in one file, so that an update of theirs breaks one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import uniavgen

SOURCE = Path(uniavgen.__file__).parent
COMPAT = SOURCE / "models" / "diffusers_compat.py"
LIBRARIES = {"torch", "diffusers", "transformers", "peft", "accelerate", "safetensors"}
OF_NAMED_TUPLES = {"_replace", "_asdict", "_fields"}
"""Public, in spite of their underscore."""


def private_names(file: Path) -> Iterator[str]:
    """Yields private modules and names that are imported, and private attributes of anything not defined in `file`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own = OF_NAMED_TUPLES | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in LIBRARIES:
                names = [module, *(alias.name for alias in node.names)]
                yield from (name for name in names if any(part.startswith("_") for part in name.split(".")))
            case ast.Attribute(attr=name, value=value) if name.startswith("_") and not name.startswith("__"):
                if not (isinstance(value, ast.Name) and value.id in ("self", "cls")) and name not in own:
                    yield ast.unparse(node)


def test_private_names_of_libraries_are_in_one_file():
    used = {str(file.relative_to(SOURCE)): [*private_names(file)] for file in SOURCE.rglob("*.py") if file != COMPAT}
    assert {file: names for file, names in used.items() if names} == {}


def test_private_names_are_found(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("from diffusers.hooks._helpers import X\nimport torch\ntorch._foreach_lerp_([], [], 0)\n")
    assert [*private_names(file)] == ["diffusers.hooks._helpers", "torch._foreach_lerp_"]
