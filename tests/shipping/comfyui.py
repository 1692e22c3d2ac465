"""A stub of what ComfyUI gives its nodes: folders, the progress bar, videos; and how it loads and calls nodes."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

TYPES = {"IMAGE", "AUDIO", "VIDEO", "STRING", "INT", "FLOAT", "BOOLEAN"}
"""Those of ComfyUI's types that the nodes use."""
WIDGETS = {"STRING": str, "INT": int, "FLOAT": float, "BOOLEAN": bool}


class VideoFromFile:
    """A VIDEO as `comfy_api.latest.InputImpl.VideoFromFile`, of which only copying is needed."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def save_to(self, path: str) -> None:
        """Copies the file, as ComfyUI copies its tracks."""
        shutil.copyfile(self.file, path)


class ProgressBar:
    """A bar that keeps what it was told."""

    told: list[tuple[int, int]]

    def __init__(self, total: int) -> None:
        ProgressBar.told = []

    def update_absolute(self, value: int, total: int) -> None:
        """Notes a step."""
        self.told.append((value, total))


def install(monkeypatch: Any, output: Path, loras: Path) -> ModuleType:
    """Puts the stub in the place of ComfyUI's modules, and loads the nodes as ComfyUI does."""

    def get_save_image_path(prefix: str, folder: str) -> tuple[str, str, int, str, str]:
        target = Path(folder) / Path(prefix).parent
        target.mkdir(parents=True, exist_ok=True)
        return str(target), Path(prefix).name, len([*target.iterdir()]) + 1, str(Path(prefix).parent), prefix

    modules = {
        "folder_paths": {
            "get_filename_list": lambda _: sorted(path.name for path in loras.iterdir()),
            "get_full_path_or_raise": lambda _, name: str(loras / name),
            "get_output_directory": lambda: str(output),
            "get_save_image_path": get_save_image_path,
        },
        "comfy": {},
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy_api": {},
        "comfy_api.latest": {"InputImpl": type("InputImpl", (), {"VideoFromFile": VideoFromFile})},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    folder = Path(__file__).parents[2] / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location("custom_nodes_uniavgen", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, package)
    spec.loader.exec_module(package)
    return package


def inputs_of(node: Any) -> dict[str, tuple]:
    """Returns the declared inputs of a node, those that must and those that may be given."""
    declared = node.INPUT_TYPES()
    return {**declared["required"], **declared.get("optional", {})}


def run(node: Any, **given: Any) -> tuple:
    """Calls a node as ComfyUI does: without autograd, and with the defaults of widgets where no input is given."""
    required, declared = node.INPUT_TYPES()["required"], inputs_of(node)
    defaults = {name: each[1]["default"] for name, each in declared.items() if len(each) > 1 and "default" in each[1]}
    values = {**defaults, **given}
    assert values.keys() >= required.keys()
    assert values.keys() <= declared.keys()
    with torch.inference_mode():
        result = getattr(node(), node.FUNCTION)(**values)
    result = result["result"] if isinstance(result, dict) else result
    assert len(result) == len(node.RETURN_TYPES)
    return result
