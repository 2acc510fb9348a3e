#!/usr/bin/env python3
"""Writes what the code knows into the README and the architecture, between their markers: `make docs`."""

import re
from pathlib import Path

from infra.settings import as_markdown
from infra.states import WORKING_STAGES

README = Path(__file__).parents[1] / "README.md"
ARCHITECTURE = Path(__file__).parent / "architecture.md"


def with_settings(text: str) -> str:
    """The README's text with the table of settings as the code has it.

    Raises:
        ValueError: the markers are missing.
    """
    return _filled(text, "settings", as_markdown())


def with_stages(text: str) -> str:
    """The architecture's text with the table of stages as the code has it.

    Raises:
        ValueError: the markers are missing.
    """
    rows = [f"| {stage} | {stage.span[0]:g} to {stage.span[1]:g} | {stage.facts.doing} |" for stage in WORKING_STAGES]
    return _filled(text, "stages", "\n".join(["| stage | percent | what the page says |", "|---|---|---|", *rows]))


def _filled(text: str, name: str, table: str) -> str:
    marked = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
    fresh, found = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _: marked, text, flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"It needs one pair of markers: <!-- {name} --> and <!-- /{name} -->.")
    return fresh


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text(encoding="utf-8")), encoding="utf-8")
    ARCHITECTURE.write_text(with_stages(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
