"""`kangklip backup` and `kangklip restore`: the records in Redis and Prefect's database, in one file.

The file does not contain the bucket's objects. It names the bucket and the prefixes to back up separately.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from deployments import console, local_run
from infra import settings
from infra.errors import ConfigError, StackError
from infra.jobs import dump, schema
from infra.local.services import Service
from infra.local.stack import LocalStack
from infra.settings import Settings
from tasks.core.errors import BadRequest
from tasks.core.plurals import pluralize

CONTENTS, RECORDS, PREFECT = "backup.json", "records.jsonl", "prefect.db"
PREFIXES = ("jobs/", "cache/", "granted/")
"""Key prefixes of the objects that the records refer to."""
_REMOTE_DATABASE = (
    "Prefect's database belongs to the server at PREFECT_API_URL.",
    "Use --without-prefect here, and back the database up on its server (pg_dump and pg_restore for PostgreSQL).",
)


class Contents(BaseModel):
    """What a backup contains; `prefect` says whether it includes Prefect's database."""

    format: int = Field(default=1, ge=1)
    made_at: str
    schema_form: int
    records: int
    prefect: bool
    bucket: str
    endpoint: str
    prefixes: tuple[str, ...] = PREFIXES


def save(file: Path, *, without_prefect: bool) -> None:
    """Write the backup to `file`, or to standard output for `-`.

    Raises:
        BadRequest: the file exists, its folder does not, or Prefect's database is on a remote server.
    """
    configured = settings.load()
    if str(file) != "-":
        _check_target(file)
    _require_local_prefect(configured, without_prefect)
    with tempfile.TemporaryDirectory() as folder, _open_records(configured) as (client, stack):
        contents = _gather(Path(folder), client, stack, without_prefect=without_prefect)
        _pack(Path(folder), file)
    console.note(f"Saved {_summary(contents.records, database=contents.prefect)}.")
    console.note(_objects_note(contents))


def restore(file: Path, *, replace: bool, without_prefect: bool) -> None:
    """Restore a backup; `replace` deletes the existing records first.

    Raises:
        BadRequest: the file is not a backup, or records already exist.
        StackError: the embedded servers are running.
    """
    configured = settings.load()
    if str(file) != "-" and not file.is_file():
        raise BadRequest(f"There is no file {file}.", "Name a file that kangklip backup wrote.")
    stack = LocalStack(configured, [Service.VALKEY])
    if stack.is_running:
        raise StackError(f"The servers in {stack.home.path} are running; stop kangklip up, then restore.")
    with tempfile.TemporaryDirectory() as folder:
        contents = _unpack(file, Path(folder))
        has_prefect = contents.prefect and not without_prefect
        if has_prefect:
            _require_local_prefect(configured, without_prefect)
        with _open_records(configured) as (client, _):
            _clear_records(client, replace=replace)
            count = dump.load(client, _lines(Path(folder) / RECORDS))
            form = schema.migrate(client)
        if has_prefect:
            _replace_database(Path(folder) / PREFECT, _database(stack))
    migrated = f", migrated from schema version {form} to {schema.VERSION}" if form < schema.VERSION else ""
    console.note(f"Restored {_summary(count, database=has_prefect)}{migrated}.")
    if contents.bucket != configured.r2_bucket:
        console.note(f"! The backup belongs to the bucket {contents.bucket}, but R2_BUCKET is {configured.r2_bucket}.")
    console.note(_objects_note(contents))


def _check_target(file: Path) -> None:
    """Check that the file can be written before doing any work."""
    folder = file.absolute().parent
    try:
        if file.exists():
            raise BadRequest(f"{file} already exists.", "Name another file, or move this one.")
        if not folder.is_dir():
            raise BadRequest(f"There is no folder {folder}.", "Create it, or name another file.")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"Cannot write to {file} ({error.strerror}); name another file.") from None


@contextmanager
def _open_records(configured: Settings) -> Generator[tuple[Any, LocalStack]]:
    """A client of the configured Redis, or of an embedded one that runs until the block ends."""
    with LocalStack(configured, [Service.VALKEY]) as stack, local_run.sigterm_as_interrupt():
        url = stack.settings.redis_url
        if url is None:
            raise ConfigError("REDIS_URL is empty; unset it to use the embedded Redis.")
        with contextlib.closing(schema.maintenance_client(url.get_secret_value())) as client:
            yield client, stack


def _require_local_prefect(configured: Settings, without_prefect: bool) -> None:
    if configured.prefect_api_url and not without_prefect:
        raise BadRequest(*_REMOTE_DATABASE)


def _database(stack: LocalStack) -> Path:
    return stack.home.path / "prefect" / "prefect.db"


def _gather(folder: Path, client: Any, stack: LocalStack, *, without_prefect: bool) -> Contents:
    """Collect the backup's files, records first: a run in the database that no record names is harmless."""
    count = form = 0
    with (folder / RECORDS).open("w", encoding="utf-8") as lines:
        for record in dump.dump(client):
            if record["key"] == schema.SCHEMA_KEY:
                form = int(record["value"])
            else:
                count += 1
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    has_database = not without_prefect and _database(stack).is_file()
    if has_database:
        with (
            contextlib.closing(sqlite3.connect(f"file:{_database(stack)}?mode=ro", uri=True, timeout=30)) as source,
            contextlib.closing(sqlite3.connect(folder / PREFECT)) as copy,
        ):
            source.backup(copy)
    configured = stack.settings
    contents = Contents(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        schema_form=form,
        records=count,
        prefect=has_database,
        bucket=configured.r2_bucket,
        endpoint=configured.r2_endpoint or f"embedded in {stack.home.path / 's3'}",
    )
    (folder / CONTENTS).write_text(contents.model_dump_json(indent=2) + "\n")
    return contents


def _pack(folder: Path, file: Path) -> None:
    """Write the archive atomically."""
    if str(file) == "-":
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz") as archive:
            _add_all(archive, folder)
        return
    handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")  # readable only by its owner
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
            _add_all(archive, folder)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _add_all(archive: tarfile.TarFile, folder: Path) -> None:
    for name in (CONTENTS, RECORDS, PREFECT):
        if (folder / name).exists():
            archive.add(folder / name, name)


def _unpack(file: Path, folder: Path) -> Contents:
    """Extract and check a backup's files; other members of the archive are ignored."""
    invalid = BadRequest(f"{file} is not a KangKlip backup.", "Name a file that kangklip backup wrote.")
    try:
        with contextlib.ExitStack() as opened:
            raw = sys.stdin.buffer if str(file) == "-" else opened.enter_context(file.open("rb"))
            archive = opened.enter_context(tarfile.open(fileobj=raw, mode="r|gz"))
            for member in archive:
                if member.name in (CONTENTS, RECORDS, PREFECT) and (source := archive.extractfile(member)):
                    with (folder / member.name).open("wb") as out:
                        shutil.copyfileobj(source, out)
        contents = Contents.model_validate_json((folder / CONTENTS).read_bytes())
        count = sum(1 for record in _lines(folder / RECORDS) if dump.check(record)["key"] != schema.SCHEMA_KEY)
    except (OSError, EOFError, tarfile.TarError, ValidationError, ValueError):
        raise invalid from None
    if count != contents.records or contents.prefect is not (folder / PREFECT).exists():
        raise invalid
    if contents.format > 1 or contents.schema_form > schema.VERSION:
        raise ConfigError("A newer KangKlip wrote this backup; restore it with that version.")
    if contents.prefect and not _is_intact(folder / PREFECT):
        raise invalid
    return contents


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _is_intact(database: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(database)) as opened:
            return opened.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        return False


def _clear_records(client: Any, *, replace: bool) -> None:
    existing = next(client.scan_iter("kangklip:job:*", count=500), None)
    if existing is not None and not replace:
        raise BadRequest("Redis already has records.", "Delete them with --replace, or name another Redis.")
    dump.clear(client)


def _replace_database(source: Path, target: Path) -> None:
    """Replace the existing database and delete SQLite's side files."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = target.with_name(f".{target.name}.restored")
    shutil.copyfile(source, partial)
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    partial.replace(target)


def _summary(records: int, *, database: bool) -> str:
    return f"{pluralize(records, 'record')}{' and the Prefect database' if database else ''}"


def _objects_note(contents: Contents) -> str:
    bucket = f"bucket {contents.bucket} ({contents.endpoint})"
    return f"The backup does not contain objects: keep {', '.join(contents.prefixes)} in the {bucket}."
