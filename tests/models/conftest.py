"""Tiny models with random weights everywhere, and inputs for them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
