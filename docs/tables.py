#!/usr/bin/env python3
"""Writes what the code knows into the README, between its markers: `make docs`."""

import re
from pathlib import Path

from infra.settings import as_markdown

README = Path(__file__).parents[1] / "README.md"


def with_settings(text: str) -> str:
    """The README's text with the table of settings as the code has it.

    Raises:
        ValueError: the markers are missing.
    """
    table = f"<!-- settings -->\n{as_markdown()}\n<!-- /settings -->"
    fresh, found = re.subn(r"<!-- settings -->.*?<!-- /settings -->", lambda _: table, text, flags=re.DOTALL)
    if found != 1:
        raise ValueError("The README needs one pair of markers: <!-- settings --> and <!-- /settings -->.")
    return fresh


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text(encoding="utf-8")), encoding="utf-8")
