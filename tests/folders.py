"""Where the tests find things: one name for each folder, wherever a test lives."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
MEDIA = TESTS / "media"
SHARED = ROOT.parent / "shared"
"""Recordings that are no part of this repository; tests that want them skip where they are missing."""
FOOTAGE = SHARED / "footage"
