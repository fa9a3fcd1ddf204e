"""`benchmarks/damage.py`, importable from tests."""

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "damage.py"
_spec = importlib.util.spec_from_file_location("damage", SCRIPT)
_module = importlib.util.module_from_spec(_spec)
sys.modules["damage"] = _module
_spec.loader.exec_module(_module)
KINDS, damage, flip, cut, delete = (getattr(_module, name) for name in ("KINDS", "damage", "flip", "cut", "delete"))
