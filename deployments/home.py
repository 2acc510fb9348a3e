"""Where the code lies, on a laptop and in the image: the pull step of prefect.yaml."""

import os
from pathlib import Path

HOME = Path(__file__).parents[1]


def enter() -> dict[str, str]:
    """Go to the code's folder and name it. Without a step Prefect would copy the folder that a run starts in."""
    os.chdir(HOME)
    return {"directory": str(HOME)}
