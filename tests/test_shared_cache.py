"""Entries of the shared cache are deleted when no job uses them, whatever other jobs do at the same moment."""

import uuid

import pytest

from infra.bucket.clients import direct_client
from infra.bucket.store import ArtifactStore, Deleted
from infra.jobs.ids import new_job_id
from tasks.core.object_keys import alias_key, cache_entry, source_key, transcript_key, upload_key, use_key
from tasks.shared_cache import mark_use, release


@pytest.fixture
def digest():
    return uuid.uuid4().hex * 2


@pytest.fixture
def source(store, digest):
    """The keys of a source in the shared cache: the index last."""
    media = [f"cache/media/{digest}/{name}" for name in ("audio-1.m4a", "video-1.mp4")]
    for key in media:
        store.put_bytes(key, b"media", "video/mp4")
    store.put_json(source_key(digest), {"media": media})
    return [*media, source_key(digest)]


def existing(store, keys):
    return [key for key in keys if store.exists(key)]


def test_an_entry_is_deleted_with_the_last_job_that_uses_it(store, source):
    one, other = new_job_id(), new_job_id()
    for job_id in (one, other, one):
        mark_use(source[0], job_id, store)
    assert release(one, store) == Deleted()
    assert existing(store, source) == source
    assert release(other, store).objects == 3
    assert existing(store, source) == []
    assert not list(store.list(use_key(cache_entry(source[0]), "")))
    assert release(other, store) == Deleted()


def test_every_kind_of_entry_is_found_and_nothing_beside_it(store, digest):
    other = uuid.uuid4().hex * 2
    keys = [(upload_key(d), alias_key(d), transcript_key(d, "a" * 64), source_key(d)) for d in (digest, other)]
    job_id = new_job_id()
    for key in (*keys[0], *keys[1]):
        store.put_json(key, {})
    for key in keys[0]:
        mark_use(key, job_id, store)
    assert release(job_id, store).objects == 4
    assert (existing(store, keys[0]), existing(store, keys[1])) == ([], list(keys[1]))


def test_a_job_that_begins_during_a_deletion_keeps_what_it_finds(servers, store, source):
    """The other job begins before the first request of the deletion, then before the second, and so on."""
    media, index = source[:-1], store.get_json(source[-1])
    deleting, step, kept, requests = fresh_store(servers.settings), 0, [], []

    def begin(**_):
        requests.append(1)
        if len(requests) != step:
            return
        mark_use(source[0], begun, store)
        if store.exists(source[-1]) and existing(store, media) == media:  # as DOWNLOAD decides
            found.extend(source)

    deleting._client.meta.events.register("before-call.s3", begin)
    while not kept or step <= len(requests):
        ended, begun, found, requests, step = new_job_id(), new_job_id(), [], [], step + 1
        for key in media:
            store.put_bytes(key, b"media", "video/mp4")
        store.put_json(source[-1], index)
        mark_use(source[0], ended, store)
        release(ended, deleting)
        kept.append(bool(found))
        assert existing(store, source) in ([], source), f"step {step}: part of it is left"
        assert existing(store, found) == found, f"step {step}: it was taken from the job"
        release(begun, store)
    assert {True, False} == set(kept)


def fresh_store(settings):
    """A store with a client of its own."""
    secrets = settings.r2_access_key_id.get_secret_value(), settings.r2_secret_access_key.get_secret_value()
    return ArtifactStore(direct_client.__wrapped__(settings.r2_endpoint, *secrets, 2), settings.r2_bucket)
