"""The folders that tests use, each under one name."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
MEDIA = TESTS / "media"
SHARED = ROOT.parent / "shared"
"""Recordings outside this repository; tests that need them are skipped if they are missing."""
FOOTAGE = SHARED / "footage"
