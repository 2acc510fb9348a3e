"""The fixtures of the Nosana worker's tests: a pool on the Prefect server and a double of Nosana."""

from tests.nosana.conftest import nosana
from tests.nosana.test_worker import scene

__all__ = ["nosana", "scene"]
