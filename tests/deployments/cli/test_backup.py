"""`kangklip backup` and `kangklip restore`: the real program on real servers."""

import io
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from deployments.cli.backup import _unpack
from infra.errors import ConfigError, StateError
from infra.jobs import dump, schema
from infra.jobs.ids import new_job_id
from infra.jobs.store import JobStore
from infra.local.services import Service
from infra.local.stack import LocalStack
from infra.settings import Settings
from tasks.core.errors import BadRequest
from tests.infra.jobs.test_schema import job_id, old_records

REQUEST = '{"video_url": "https://example.org/talk.mp4"}'
SERVER_VARIABLES = ("REDIS_URL", "R2_", "PREFECT_", "KANGKLIP_DATA_DIR")


def kangklip(folder: Path, *arguments: str | Path, **named: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program with the embedded servers of a folder and wide output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SERVER_VARIABLES)}
    environment = clean | {"KANGKLIP_DATA_DIR": str(folder), "COLUMNS": "400"} | named
    program = Path(sys.executable).with_name("kangklip")
    return subprocess.run([program, *arguments], env=environment, capture_output=True, timeout=120, check=False)


def message_of(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode().split())


def tables(database: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        names = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        return [(name, opened.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in names]  # noqa: S608


@pytest.fixture
def backup_file(stack, data_dir, tmp_path) -> Path:
    """A backup of the tests' servers, made while they run."""
    schema.update(stack.settings)  # as every program does that starts with them
    store = JobStore.from_settings(stack.settings)
    made = new_job_id()
    store.create(made, REQUEST)
    assert store.cancel(made, 1)
    variable = {"name": made.lower(), "value": "kept"}
    httpx.post(f"{stack.settings.prefect_api_url}/variables/", json=variable, timeout=30).raise_for_status()
    file = tmp_path / "saved.tar.gz"
    done = kangklip(data_dir, "backup", file)
    assert done.returncode == 0, message_of(done)
    assert re.search(r"Saved \d+ records and the Prefect database\.", message_of(done))
    assert "keep jobs/, cache/, granted/ in the bucket clips" in message_of(done)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["saved.tar.gz"]
    return file


def test_a_backup_is_restored_into_another_folder(stack, data_dir, backup_file, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    done = kangklip(elsewhere, "restore", backup_file)
    assert done.returncode == 0, message_of(done)
    assert re.search(r"Restored \d+ records and the Prefect database", message_of(done))
    source, target = (folder / "stack" / "prefect" / "prefect.db" for folder in (data_dir, elsewhere))
    assert [name for name, _ in tables(target)] == [name for name, _ in tables(source)]
    assert dict(tables(target))["variable"] == dict(tables(source))["variable"] > 0
    with LocalStack(Settings(KANGKLIP_DATA_DIR=elsewhere).model_copy(update=NO_SERVERS), [Service.VALKEY]) as other:
        jobs, theirs = JobStore.from_settings(other.settings), JobStore.from_settings(stack.settings)
        assert jobs.recent(500) == theirs.recent(500)
        assert "are running; stop kangklip up" in message_of(kangklip(elsewhere, "restore", backup_file))
    assert "Redis already has records" in message_of(kangklip(elsewhere, "restore", backup_file))
    again = kangklip(elsewhere, "restore", backup_file, "--replace", "--without-prefect", R2_BUCKET="other")
    assert again.returncode == 0, message_of(again)
    assert "The backup belongs to the bucket clips, but R2_BUCKET is other." in message_of(again)


NO_SERVERS = dict.fromkeys(("redis_url", "r2_endpoint", "r2_access_key_id", "r2_secret_access_key", "prefect_api_url"))


def archive(**files: bytes) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return held.getvalue()


def description(**changes) -> bytes:
    head = {"made_at": "2026-11-28", "schema_form": 1, "records": 0, "prefect": False, "bucket": "clips"}
    return json.dumps(head | {"endpoint": "x"} | changes).encode()


def test_a_backup_of_version_1_is_migrated(tmp_path):
    lines = [record for record in old_records() if "rate:" not in record["key"] and "session:" not in record["key"]]
    form = {"key": schema.SCHEMA_KEY, "type": "string", "value": "1", "expires": None}
    records = b"".join(json.dumps(record).encode() + b"\n" for record in [form, *lines])
    saved = tmp_path / "old.tar.gz"
    saved.write_bytes(archive(backup__json=description(records=len(lines)), records__jsonl=records))
    done = kangklip(tmp_path / "data", "restore", saved)
    assert done.returncode == 0, message_of(done)
    assert f"Restored {len(lines)} records, migrated from schema version 1 to {schema.VERSION}." in message_of(done)
    shown = kangklip(tmp_path / "data", "status", job_id(5))
    assert "CANCELLED" in shown.stdout.decode()


def record(**changes) -> bytes:
    return json.dumps({"key": "kangklip:x", "type": "string", "value": "y", "expires": None} | changes).encode() + b"\n"


DAMAGED = {
    "no type": b'{"key": "kangklip:x", "value": "y", "expires": null}\n',
    "no key": b'{"type": "string", "value": "y", "expires": null}\n',
    "no object": b"[1, 2]\n",
    "another's key": record(key="theirs:x"),
    "an unknown type": record(type="module"),
    "a type that is no text": record(type=["string"]),
    "a value of another type": record(value={"y": "z"}),
    "an empty hash": record(type="hash", value={}),
    "a score that is no number": record(type="zset", value=[["y", "high"]]),
    "an entry without fields": record(type="stream", value=[["1-1", {}]]),
    "an end that is no time": record(expires="soon"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_found_before_anything_is_replaced(name, tmp_path):
    saved, folder = tmp_path / "damaged.tar.gz", tmp_path / "unpacked"
    saved.write_bytes(archive(backup__json=description(records=2), records__jsonl=record() + DAMAGED[name]))
    folder.mkdir()
    with pytest.raises(StateError, match="damaged record"):
        _unpack(saved, folder)


BROKEN_BACKUPS = {
    "no archive": b"something else",
    "cut off": archive(backup__json=description(), records__jsonl=b"")[:-40],
    "no records": archive(backup__json=description()),
    "too few records": archive(backup__json=description(records=3), records__jsonl=record()),
    "no database": archive(backup__json=description(prefect=True), records__jsonl=b""),
    "no good database": archive(
        backup__json=description(prefect=True), records__jsonl=b"", prefect__db=b"SQLite?" * 99
    ),
    "a newer form": archive(backup__json=description(schema_form=99), records__jsonl=b""),
}


@pytest.mark.parametrize("name", BROKEN_BACKUPS)
def test_a_file_that_is_not_a_backup_is_refused(name, tmp_path):
    saved, folder = tmp_path / "wrong.tar.gz", tmp_path / "unpacked"
    saved.write_bytes(BROKEN_BACKUPS[name])
    folder.mkdir()
    fault = "newer KangKlip" if "newer" in name else "is not a KangKlip backup"
    with pytest.raises((BadRequest, ConfigError), match=fault):
        _unpack(saved, folder)


def test_a_broken_backup_changes_nothing(servers, tmp_path):
    url = servers.settings.redis_url.get_secret_value().removesuffix("/0") + "/8"
    with schema.maintenance_client(url) as client:
        client.flushdb()
        client.set("kangklip:totals", "as it was")
        saved = tmp_path / "wrong.tar.gz"
        saved.write_bytes(BROKEN_BACKUPS["too few records"])
        done = kangklip(tmp_path / "data", "restore", saved, "--replace", REDIS_URL=url)
        assert done.returncode == 2, message_of(done)
        assert "is not a KangKlip backup. Name a file" in message_of(done)
        assert [record["value"] for record in dump.dump(client)] == ["1", "as it was"]
        client.flushdb()


def test_backup_to_standard_output_without_the_prefect_database(servers, tmp_path):
    base = servers.settings.redis_url.get_secret_value().removesuffix("/0")
    with schema.maintenance_client(f"{base}/9") as source, schema.maintenance_client(f"{base}/10") as target:
        for client in (source, target):
            client.flushdb()
        dump.load(source, old_records())
        named = {"REDIS_URL": f"{base}/9", "PREFECT_API_URL": "http://127.0.0.1:9/api"}
        refused = kangklip(tmp_path, "backup", "-", **named)
        assert refused.returncode == 2
        assert "Use --without-prefect here" in message_of(refused)
        done = kangklip(tmp_path, "backup", "-", "--without-prefect", **named)
        assert done.returncode == 0, message_of(done)
        saved = tmp_path / "saved.tar.gz"
        saved.write_bytes(done.stdout)
        done = kangklip(tmp_path, "restore", saved, **named | {"REDIS_URL": f"{base}/10"})
        assert not (tmp_path / "stack").exists(), "where all servers are named, no folder is made"
        assert done.returncode == 0, message_of(done)
        assert [r["key"] for r in dump.dump(target)] == [r["key"] for r in dump.dump(source)]
        assert "already exists" in message_of(kangklip(tmp_path, "backup", saved, "--without-prefect", **named))
        for client in (source, target):
            client.flushdb()
