"""One line of the output contract, as the manifest shows it."""

from pydantic import BaseModel

LENGTH_TOLERANCE = 0.1
"""Seconds by which the clip's length may differ from its EDL."""


class Check(BaseModel):
    """One line of the contract. `fixable` means that rendering the same clip again can fix it."""

    name: str
    ok: bool
    measured: str
    wanted: str
    fixable: bool = False
