"""How much memory of a card does a clip of the paper's model need? Predicted by `uniavgen plan`, not measured.

python benchmarks/plan.py        # minutes; writes benchmarks/results/plan.json
"""

import json
import subprocess
import sys
from typing import Any

from record import circumstances, keep
from tables import plans

CARDS = {
    "1280x736": (80, 48, 24, 16, 12, 8),
    "1120x736": (80, 24, 16, 12, 8),
    "736x736": (80, 24, 16, 12, 8),
    "832x480": (80, 24, 16, 12, 8),
}
"""GB of the cards at each size, joint task."""
OTHERS = ("continuation", "dubbing", "animation")
"""Tasks at the largest size on cards of 24 and 12 GB."""
PLAN = "import sys; from uniavgen.apps.cli import main; sys.argv[0] = 'uniavgen'; main()"


def main() -> None:
    clips = [("joint", size, card) for size, cards in CARDS.items() for card in cards]
    clips += [(task, "1280x736", card) for task in OTHERS for card in (24, 12)]
    result = {
        "question": "What will a clip of 81 frames of the paper's model take of a card, as predicted?",
        **circumstances("none (predicted from configs)"),
        "plans": [plan_of(*clip) for clip in clips],
    }
    print(plans(result))
    keep("plan", result)


def plan_of(task: str, size: str, card: int) -> dict[str, Any]:
    """Returns the plan that the command line prints."""
    words = ["plan", "--model", "base", "--task", task, "--size", size, "--vram", str(card), "--json"]
    done = subprocess.run([sys.executable, "-c", PLAN, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
