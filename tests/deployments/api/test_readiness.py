"""How often and how long the services are checked, however many ask."""

import threading
import time
from pathlib import Path

import anyio
import pytest

from deployments.api import readiness
from deployments.api.readiness import ReadinessChecks
from infra.errors import StateError


def outcomes(checks: ReadinessChecks, count: int) -> list[dict[str, str]]:
    """What `count` simultaneous callers get."""
    found = []

    async def call() -> None:
        found.append(await checks.results())

    async def call_all() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(call)

    anyio.run(call_all)
    return found


def test_simultaneous_callers_share_one_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CACHE_SECONDS", 60)
    calls: list[None] = []
    checks = ReadinessChecks({"prefect": lambda: calls.append(time.sleep(0.05))}, tmp_path)
    assert outcomes(checks, 40) == [{"prefect": "ok"}] * 40
    assert len(calls) == 1


def test_an_outcome_is_cached_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CACHE_SECONDS", 0)
    faults = [StateError("Redis does not answer."), None]

    def check() -> None:
        if fault := faults.pop(0):
            raise fault

    checks = ReadinessChecks({"redis": check}, tmp_path)
    assert outcomes(checks, 1) == [{"redis": "Redis does not answer."}]
    assert outcomes(checks, 1) == [{"redis": "ok"}]


def test_a_hanging_service_is_not_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CACHE_SECONDS", 0)
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.3)
    end = threading.Event()
    checks = ReadinessChecks({"prefect": end.wait, "redis": lambda: None}, tmp_path)
    try:
        found = [outcomes(checks, 1)[0] for _ in range(8)]  # more than there are threads
    finally:
        end.set()
    assert {one["prefect"] for one in found} == {"no answer within 0.3 seconds"}
