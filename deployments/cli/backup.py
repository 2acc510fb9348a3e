"""`kangklip backup` and `kangklip restore`: the records in Redis and Prefect's database, in one file.

The bucket's objects are not in it. The backup names the bucket and the prefixes of the objects that belong to it.
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
from infra.local.parts import Part
from infra.local.stack import LocalStack
from infra.settings import Settings
from tasks.core.errors import BadRequest

ABOUT, RECORDS, PREFECT = "backup.json", "records.jsonl", "prefect.db"
PREFIXES = ("jobs/", "cache/", "granted/")
"""Prefixes of the objects that the records refer to."""
_OWN_DATABASE = (
    "Prefect's database is that of the server at PREFECT_API_URL.",
    "Leave it out here with --without-prefect, and save it there: PostgreSQL with pg_dump and pg_restore.",
)


class About(BaseModel):
    """What a backup contains. `prefect` says whether Prefect's database is included."""

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
        BadRequest: the file exists, its folder does not, or Prefect's database is another server's.
    """
    configured = settings.load()
    if str(file) != "-":
        _check_target(file)
    _needs_own_prefect(configured, without_prefect)
    with tempfile.TemporaryDirectory() as folder, _records_of(configured) as (client, stack):
        about = _gather(Path(folder), client, stack, without_prefect=without_prefect)
        _pack(Path(folder), file)
    console.note(f"{_counted(about.records, database=about.prefect)} saved.")
    console.note(_objects(about))


def restore(file: Path, *, replace: bool, without_prefect: bool) -> None:
    """Restore what `save` wrote; `replace` deletes the existing records first.

    Raises:
        BadRequest: the file is not a backup, or records already exist.
        StackError: the embedded servers are running.
    """
    configured = settings.load()
    if str(file) != "-" and not file.is_file():
        raise BadRequest(f"There is no file {file}.", "Name one that kangklip backup has written.")
    stack = LocalStack(configured, [Part.VALKEY])
    if stack.is_running:
        raise StackError(f"The servers in {stack.home.path} are running; stop kangklip up, then restore.")
    with tempfile.TemporaryDirectory() as folder:
        about = _unpack(file, Path(folder))
        brings_prefect = about.prefect and not without_prefect
        if brings_prefect:
            _needs_own_prefect(configured, without_prefect)
        with _records_of(configured) as (client, _):
            _make_room(client, replace=replace)
            count = dump.load(client, _lines(Path(folder) / RECORDS))
            form = schema.migrate(client)
        if brings_prefect:
            _put_database(Path(folder) / PREFECT, _database(stack))
    older = f", brought from form {form} to {schema.VERSION}" if form < schema.VERSION else ""
    console.note(f"{_counted(count, database=brings_prefect)} restored{older}.")
    if about.bucket != configured.r2_bucket:
        console.note(f"! The backup is of the bucket {about.bucket}, and R2_BUCKET is {configured.r2_bucket}.")
    console.note(_objects(about))


def _check_target(file: Path) -> None:
    """Check that the file can be written, before anything is gathered."""
    folder = file.absolute().parent
    try:
        if file.exists():
            raise BadRequest(f"{file} exists already.", "Name another file, or move that one away.")
        if not folder.is_dir():
            raise BadRequest(f"There is no folder {folder}.", "Make it, or name another file.")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror}); name another file.") from None


@contextmanager
def _records_of(configured: Settings) -> Generator[tuple[Any, LocalStack]]:
    """A client of the Redis that the settings name, or of the embedded one, which runs meanwhile."""
    with LocalStack(configured, [Part.VALKEY]) as stack, local_run.unwound_on_sigterm():
        url = stack.settings.redis_url
        if url is None:
            raise ConfigError("REDIS_URL is empty; unset it to use the embedded one.")
        with contextlib.closing(schema.maintenance_client(url.get_secret_value())) as client:
            yield client, stack


def _needs_own_prefect(configured: Settings, without_prefect: bool) -> None:
    if configured.prefect_api_url and not without_prefect:
        raise BadRequest(*_OWN_DATABASE)


def _database(stack: LocalStack) -> Path:
    return stack.home.path / "prefect" / "prefect.db"


def _gather(folder: Path, client: Any, stack: LocalStack, *, without_prefect: bool) -> About:
    """Gather the backup, records first: a run in the database that no record names does no harm."""
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
    about = About(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        schema_form=form,
        records=count,
        prefect=has_database,
        bucket=configured.r2_bucket,
        endpoint=configured.r2_endpoint or f"embedded in {stack.home.path / 's3'}",
    )
    (folder / ABOUT).write_text(about.model_dump_json(indent=2) + "\n")
    return about


def _pack(folder: Path, file: Path) -> None:
    """Write the archive, whole or not at all."""
    if str(file) == "-":
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz") as archive:
            _add_all(archive, folder)
        return
    handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")  # readable only by its owner
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
            _add_all(archive, folder)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _add_all(archive: tarfile.TarFile, folder: Path) -> None:
    for name in (ABOUT, RECORDS, PREFECT):
        if (folder / name).exists():
            archive.add(folder / name, name)


def _unpack(file: Path, folder: Path) -> About:
    """Extract a backup's files and check them before anything is changed; other members are ignored."""
    wrong = BadRequest(f"{file} is not a backup of KangKlip.", "Name a file that kangklip backup has written.")
    try:
        with contextlib.ExitStack() as opened:
            raw = sys.stdin.buffer if str(file) == "-" else opened.enter_context(file.open("rb"))
            archive = opened.enter_context(tarfile.open(fileobj=raw, mode="r|gz"))
            for member in archive:
                if member.name in (ABOUT, RECORDS, PREFECT) and (held := archive.extractfile(member)):
                    with (folder / member.name).open("wb") as out:
                        shutil.copyfileobj(held, out)
        about = About.model_validate_json((folder / ABOUT).read_bytes())
        found = sum(1 for record in _lines(folder / RECORDS) if dump.check(record)["key"] != schema.SCHEMA_KEY)
    except (OSError, EOFError, tarfile.TarError, ValidationError, ValueError):
        raise wrong from None
    if found != about.records or about.prefect is not (folder / PREFECT).exists():
        raise wrong
    if about.format > 1 or about.schema_form > schema.VERSION:
        raise ConfigError("A newer KangKlip has written this backup: restore it with that one.")
    if about.prefect and not _is_sound(folder / PREFECT):
        raise wrong
    return about


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _is_sound(database: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(database)) as opened:
            return opened.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        return False


def _make_room(client: Any, *, replace: bool) -> None:
    there = next(client.scan_iter("kangklip:job:*", count=500), None)
    if there is not None and not replace:
        raise BadRequest("There are records already.", "Delete them with --replace, or name another Redis.")
    dump.clear(client)


def _put_database(source: Path, target: Path) -> None:
    """Replace the existing database, and remove the files that SQLite keeps with it."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = target.with_name(f".{target.name}.restored")
    shutil.copyfile(source, part)
    for beside in ("-wal", "-shm"):
        target.with_name(target.name + beside).unlink(missing_ok=True)
    part.replace(target)


def _counted(records: int, *, database: bool) -> str:
    return f"{records} record{'' if records == 1 else 's'}{' and the database of Prefect' if database else ''}"


def _objects(about: About) -> str:
    where = f"bucket {about.bucket} ({about.endpoint})"
    return f"The objects are not in it: keep {', '.join(about.prefixes)} of the {where}."
