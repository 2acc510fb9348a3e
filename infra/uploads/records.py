"""Uploads in Redis: how far each has come, who may continue it, and until when.

Keys: `kangklip:upload:{id}` (hash), `…:parts` (list of the parts' ETags), `…:lock`, `…:yield`; `kangklip:uploads` (all
uploads by expiry), and per client the unfinished ones by expiry.

Only the holder of an upload's lock advances it, and only from the offset that it knows. A process that has lost its
lock, or one that was killed between writing to the bucket and recording it, therefore changes nothing.
"""

import re
import secrets
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from infra.errors import StateError
from infra.jobs.connection import Connection, state_errors, timestamp
from infra.jobs.keys import digest

UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
LOCK_SECONDS = 6
"""How long a lock outlives its process. Clients retry a few times within ten seconds."""
KEPT_SECONDS = 7 * 86400
"""How long an expired record waits to be removed, in case no API process runs."""
GONE, LOST = 0, -1
"""Return values of scripts: the upload is gone; another process has the lock or has advanced the upload."""
_UPLOADS, _PREFIX = "kangklip:uploads", "kangklip:upload:"

# KEYS: upload, all uploads, unfinished uploads of the client. ARGV: id, now, expiry, most unfinished uploads,
# lifetime of the record in seconds, then fields and values. Returns 0 if the client has too many unfinished uploads.
_CREATE = """
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[2])
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 0 end
for i = 6, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[5])
return 1
"""
_LIVE = f"""
local GONE, LOST = {GONE}, {LOST}
local function is_live(now)
  local found = redis.call('HMGET', KEYS[1], 'expires_at', 'removed')
  return found[1] and not found[2] and tonumber(found[1]) > tonumber(now)
end
"""
# Takes the lock, or asks its holder to yield if it is idle. KEYS: upload, lock, yield. ARGV: now, token, seconds.
_LOCK = (
    _LIVE
    + """
if not is_live(ARGV[1]) then return GONE end
if redis.call('SET', KEYS[2], ARGV[2], 'NX', 'EX', ARGV[3]) then
  redis.call('DEL', KEYS[3])
  return 1
end
redis.call('SET', KEYS[3], '1', 'EX', 10)
return LOST
"""
)
# Renews the lock. KEYS: lock, yield. ARGV: token, seconds. Returns 0 if it is lost, 2 if someone waits for it.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1 + redis.call('EXISTS', KEYS[2])
"""
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# Records what the bucket has received. KEYS: upload, lock, parts.
# ARGV: now, token, offset before, offset after, key of the rest or '', multipart id or '', ETags of the new parts.
_ADVANCE = (
    _LIVE
    + """
if not is_live(ARGV[1]) then return GONE end
if redis.call('GET', KEYS[2]) ~= ARGV[2] or redis.call('HGET', KEYS[1], 'offset') ~= ARGV[3] then return LOST end
redis.call('HSET', KEYS[1], 'offset', ARGV[4], 'rest', ARGV[5], 'multipart', ARGV[6])
for i = 7, #ARGV do redis.call('RPUSH', KEYS[3], ARGV[i]) end
redis.call('EXPIRE', KEYS[3], redis.call('TTL', KEYS[1]))
return 1
"""
)
# KEYS: upload, unfinished uploads of the client. ARGV: now, id.
_FINISH = (
    _LIVE
    + """
if not is_live(ARGV[1]) then return GONE end
redis.call('HSET', KEYS[1], 'is_finished', '1')
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
"""
)
# From now on the upload is gone for everyone; the record stays until its objects are deleted. KEYS: upload.
_BEGIN_REMOVAL = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'removed', '1') end return 1"


class Upload(BaseModel):
    """A file that a client uploads piece by piece. Sizes and offsets are in bytes, times in epoch seconds.

    - `owner`: name of the API key that may use it, or "" if the API has no keys.
    - `client`: digest of what its limits count against.
    - `key`: where the finished file is in the bucket.
    - `metadata`: the client's own words, as sent.
    - `rest`: key of the object with the bytes after the last whole part, or "".
    - `multipart`: id of the multipart upload, or "" before the first part.
    """

    upload_id: str
    owner: str
    client: str
    key: str
    name: str
    metadata: str
    length: int
    expires_at: float
    offset: int = 0
    rest: str = ""
    multipart: str = ""
    is_finished: bool = False


class Progress(NamedTuple):
    """What is newly recorded: the offset, the object with the bytes after the last part, and the new parts' ETags."""

    offset: int
    rest: str
    multipart: str
    etags: list[str]


class UploadGone(Exception):
    """There is no such upload, or it has expired or been removed."""


class UploadLocked(Exception):
    """Another request has the lock."""


class UploadRecords:
    """Every method raises `StateError` if Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._redis = connection.client

    def create(self, upload: Upload, most_unfinished: int, now: float) -> bool:
        """Record a new upload. False if its client has `most_unfinished` already."""
        fields = [text for name, value in upload.model_dump(mode="json").items() for text in (name, _as_text(value))]
        kept = int(upload.expires_at - now) + KEPT_SECONDS
        keys = [_key(upload.upload_id), _UPLOADS, _unfinished(upload.client)]
        arguments = [upload.upload_id, now, upload.expires_at, most_unfinished, kept, *fields]
        return self._connection.run_script(_CREATE, keys, arguments) == 1

    def get(self, upload_id: str, now: float) -> Upload | None:
        """The upload, or None if it is unknown, expired or being removed."""
        found = self._read(upload_id)
        return None if found is None or "removed" in found or float(found["expires_at"]) <= now else _parse(found)

    def etags(self, upload_id: str) -> list[str]:
        """The ETags of the recorded parts, in order."""
        with state_errors():
            return cast("list[str]", self._redis.lrange(_key(upload_id, "parts"), 0, -1))

    def finish(self, upload: Upload) -> None:
        """Record that the whole file is in the bucket.

        Raises:
            UploadGone: it has expired or been removed.
        """
        keys = [_key(upload.upload_id), _unfinished(upload.client)]
        if self._connection.run_script(_FINISH, keys, [timestamp(), upload.upload_id]) == GONE:
            raise UploadGone

    def lock(self, upload_id: str) -> "UploadLock":
        """Lock the upload for one writer.

        Raises:
            UploadGone: there is no such upload.
            UploadLocked: another writer has the lock; if it receives nothing, it will yield.
        """
        token = secrets.token_hex(8)
        keys = [_key(upload_id), _key(upload_id, "lock"), _key(upload_id, "yield")]
        answer = self._connection.run_script(_LOCK, keys, [timestamp(), token, LOCK_SECONDS])
        _raise_refusal(answer)
        return UploadLock(self._connection, upload_id, token)

    def expired(self, now: float, most: int) -> list[str]:
        """The ids of up to `most` expired uploads, the oldest first."""
        with state_errors():
            return cast("list[str]", self._redis.zrangebyscore(_UPLOADS, "-inf", now, start=0, num=most))

    def begin_removal(self, upload_id: str) -> Upload | None:
        """Hide the upload from everyone, and return it; its objects can then be deleted."""
        self._connection.run_script(_BEGIN_REMOVAL, [_key(upload_id)], [])
        found = self._read(upload_id)
        return None if found is None else _parse(found)

    def end_removal(self, upload_id: str, client: str) -> None:
        """Delete the record."""
        with state_errors():
            self._redis.delete(_key(upload_id), _key(upload_id, "parts"), _key(upload_id, "lock"))
            self._redis.zrem(_unfinished(client), upload_id)
            self._redis.zrem(_UPLOADS, upload_id)

    def _read(self, upload_id: str) -> dict[str, str] | None:
        with state_errors():
            return cast("dict[str, str]", self._redis.hgetall(_key(upload_id))) or None


class UploadLock:
    """The right to advance one upload."""

    def __init__(self, connection: Connection, upload_id: str, token: str) -> None:
        self._connection, self._upload_id, self.token = connection, upload_id, token

    def renew(self) -> bool:
        """Keep the lock. Returns whether another writer waits for it.

        Raises:
            UploadLocked: it is lost.
        """
        keys = [_key(self._upload_id, "lock"), _key(self._upload_id, "yield")]
        answer = self._connection.run_script(_RENEW, keys, [self.token, LOCK_SECONDS])
        if answer == 0:
            raise UploadLocked
        return answer == 2

    def advance(self, offset_before: int, progress: Progress) -> None:
        """Record what the bucket has received since `offset_before`.

        Raises:
            UploadGone: the upload has expired or been removed.
            UploadLocked: the lock is lost, or the upload is at another offset.
        """
        keys = [_key(self._upload_id), _key(self._upload_id, "lock"), _key(self._upload_id, "parts")]
        recorded = [progress.offset, progress.rest, progress.multipart, *progress.etags]
        arguments = [timestamp(), self.token, offset_before, *recorded]
        _raise_refusal(self._connection.run_script(_ADVANCE, keys, arguments))

    def release(self) -> None:
        self._connection.run_script(_UNLOCK, [_key(self._upload_id, "lock")], [self.token])


def _raise_refusal(answer: int) -> None:
    if answer == GONE:
        raise UploadGone
    if answer == LOST:
        raise UploadLocked


def _parse(found: dict[str, str]) -> Upload:
    try:
        return Upload.model_validate(found)
    except ValueError:
        raise StateError("An upload's record is malformed.") from None


def _as_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _key(upload_id: str, name: str = "") -> str:
    return f"{_PREFIX}{upload_id}{':' if name else ''}{name}"


def _unfinished(client: str) -> str:
    return f"{_UPLOADS}:of:{client}"


def client_digest(client: str) -> str:
    """The name under which a client's uploads are counted."""
    return digest(client)
