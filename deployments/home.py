"""The code's folder, on a laptop or in the image; prefect.yaml's pull step enters it."""

import os
from pathlib import Path

HOME = Path(__file__).parents[1]


def enter() -> dict[str, str]:
    """Change to the code's folder and return it. Without a pull step, Prefect copies the working folder per run."""
    os.chdir(HOME)
    return {"directory": str(HOME)}
