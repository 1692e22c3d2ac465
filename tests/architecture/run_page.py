"""Runs the code blocks of one document in order, as a reader would: python run_page.py PAGE.

Runs in the current folder, which should be empty and gets the checkout's examples. Blocks of `sh` and `python` are
executed; `uniavgen` is called within this process, and clips are made small. A block whose first line is
`# file: NAME` is written to that file instead, and one whose first line is `# not run: REASON` is left out.
"""

import atexit
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = ["--steps", "1", "--num-frames", "33"]
"""Options appended to commands that make clips; the last value of an option wins."""
OTHER_MODEL = ["--size", "64x64"]
"""Appended too where the model is not nano or made of it, which has one size."""
GENERATING = {"generate", "continue", "dub", "animate"}


def main(page: Path) -> None:
    prepare(page.stem)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    text = page.read_text()
    for block in BLOCK.finditer(text):
        code, line = block["code"], text.count("\n", 0, block.start()) + 2
        first = code.partition("\n")[0]
        if first.startswith("# not run"):
            continue
        if first.startswith("# file: "):
            write(Path(first.removeprefix("# file: ").strip()), code)
        elif block["language"] == "python":
            # The file name and line make tracebacks point into the document.
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
        elif block["language"] == "sh":
            for command in code.replace("\\\n", " ").splitlines():
                shell(command)


def prepare(page: str) -> None:
    """Puts what a page takes for granted into the current folder."""
    shutil.copytree(ROOT / "examples", "examples")
    if page == "add-a-task":
        shutil.copytree(ROOT / "src", "src", ignore=shutil.ignore_patterns("__pycache__"))
    if page == "lora":
        write_adapters()
    if page == "real-weights":
        sys.path.insert(0, str(ROOT / "tests" / "checkpoint"))
        from made_up import DEEP, joint, write_release

        write_release(Path("release"), joint(DEEP))


def write_adapters() -> None:
    """Writes adapters of nano: `me` as training saves it, and `style.safetensors` as ComfyUI does for Wan."""
    import torch
    from safetensors.torch import save_file

    from uniavgen.inference.model_spec import saved_transformer_config
    from uniavgen.workflows.model_files import find_model

    folder = find_model("nano")
    assert folder is not None
    width = saved_transformer_config(folder).video.width
    down, up = torch.randn(2, width), 0.1 * torch.randn(width, 2)
    Path("me/transformer").mkdir(parents=True)
    for file, stem in (
        ("me/transformer/pytorch_lora_weights.safetensors", "blocks.0.video.attn1.to_q"),
        ("style.safetensors", "diffusion_model.blocks.1.self_attn.o"),
    ):
        save_file({f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}, file)


def write(path: Path, code: str) -> None:
    """Writes a block to a file, without its first line, which names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code.partition("\n")[2])


def shell(command: str) -> None:
    """Runs one command; `uniavgen` in this process, everything else by bash."""
    from uniavgen.apps.cli import main as uniavgen

    words = shlex.split(command, comments=True)
    if not words:
        return
    print("$", command, flush=True)
    if words[-1] == "&":
        start(words[:-1])
        return
    if words[0] == "uniavgen":
        code = uniavgen(small(words[1:]))
    else:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        code = subprocess.run(["bash", "-euc", command], env={**os.environ, "PATH": path}, check=False).returncode
    if code != 0:
        sys.exit(f"{command}: exit code {code}")


def start(words: list[str]) -> None:
    """Starts `uniavgen` in a process of its own until the page ends, once it has printed a line."""
    program = "import sys; from uniavgen.apps.cli import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", program, *words[1:]], stdout=subprocess.PIPE)
    atexit.register(process.kill)
    assert process.stdout is not None
    print(process.stdout.readline().decode(), flush=True)


def small(words: list[str]) -> list[str]:
    """Returns a command line whose clips are small."""
    name = words[0]
    if name in GENERATING or (name == "evaluate" and "--generate" in words):
        words = [*words, *SMALL]
    if name in GENERATING and "--model" in words and "nano" not in words[words.index("--model") + 1]:
        words = [*words, *OTHER_MODEL]
    if name in GENERATING and "--vram" in words:
        # Refused on a CPU, where everything stays in memory.
        at = words.index("--vram")
        words = [*words[:at], *words[at + 2 :]]
    return words


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
