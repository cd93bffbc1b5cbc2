"""The package with made-up engines is installed, as far as Python can tell."""

import sys
from pathlib import Path

INSTALLED = Path(__file__).parent / "made_up"
sys.path.insert(0, str(INSTALLED))
