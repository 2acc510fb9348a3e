"""The folder of the code, on a laptop and in the image, for the pull step of prefect.yaml."""

import os
from pathlib import Path

HOME = Path(__file__).parents[1]


def enter() -> dict[str, str]:
    """Change to the code's folder and return it. Without a pull step Prefect would copy a run's working folder."""
    os.chdir(HOME)
    return {"directory": str(HOME)}
