"""Background transfers run in parallel with the work and are awaited where their files are needed."""

import logging
import threading
from pathlib import Path

from infra.bucket import background_transfers
from infra.errors import StoreError


def test_wait_returns_once_the_file_is_there(tmp_path: Path):
    path, go = tmp_path / "a", threading.Event()

    def fetch():
        go.wait(10)
        path.write_text("here")

    background_transfers.begin(path, fetch)
    assert not path.exists()
    threading.Timer(0.1, go.set).start()
    background_transfers.wait(path)
    assert path.read_text() == "here"


def test_a_file_has_one_transfer_at_a_time(tmp_path: Path):
    path, go, begun = tmp_path / "a", threading.Event(), []
    for name in ("first", "second"):
        background_transfers.begin(path, lambda name=name: (begun.append(name), go.wait(10)))
    go.set()
    background_transfers.wait(path)
    assert begun == ["first"]


def test_a_failed_transfer_is_logged_and_raises_nothing(tmp_path: Path, caplog):
    def fail():
        raise StoreError("The bucket did not put x: EndpointConnectionError.")

    with caplog.at_level(logging.WARNING):
        background_transfers.begin(tmp_path / "a", fail)
        background_transfers.wait(tmp_path / "a")
    assert "A background transfer failed: The bucket did not put x" in caplog.text


def test_wait_all_waits_for_one_folder_only(tmp_path: Path):
    done, never = [], threading.Event()
    for name in ("job-1/a", "job-1/b"):
        background_transfers.begin(tmp_path / name, lambda name=name: done.append(name))
    background_transfers.begin(tmp_path / "job-2" / "c", lambda: never.wait(10))
    background_transfers.wait_all(tmp_path / "job-1")
    assert sorted(done) == ["job-1/a", "job-1/b"]
    never.set()
    background_transfers.wait(tmp_path / "job-2" / "c")
