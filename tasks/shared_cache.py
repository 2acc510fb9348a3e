"""Which jobs use which entries of the shared cache, and the deletion of entries that no job uses.

An entry is everything at or below `cache/KIND/NAME`. Before a job looks for an entry, it leaves a mark under
`cache/uses/KIND/NAME/`; the mark's age says when the job last used the entry. The job also keeps a list of its entries
under its own prefix, so that its deletion finds the marks.
"""

from infra.bucket.store import ArtifactStore, Deleted
from tasks.core.object_keys import cache_entry, is_cache_index, job_uses, use_key

_JSON = "application/json"


def mark_use(key: str, job_id: str, store: ArtifactStore) -> None:
    """Mark that the job uses the entry that `key` belongs to. Call this before looking for the entry."""
    entry = cache_entry(key)
    store.put_bytes(job_uses(job_id) + entry, b"{}\n", _JSON)  # first, or the mark would outlive the job
    store.put_bytes(use_key(entry, job_id), b"{}\n", _JSON)


def release(job_id: str, store: ArtifactStore) -> Deleted:
    """Delete the job's marks, and the entries that no other job uses. It can be repeated if it fails midway."""
    deleted, prefix = Deleted(), job_uses(job_id)
    for key in list(store.list(prefix)):
        entry = key.removeprefix(prefix)
        store.delete(use_key(entry, job_id))
        deleted += delete_unused(entry, store)
        store.delete(key)
    return deleted


def delete_unused(entry: str, store: ArtifactStore) -> Deleted:
    """Delete the entry unless a job has marked it.

    A job may mark the entry at this very moment. The index of a source, by which jobs find its media, is therefore
    deleted before the marks are listed: a job that has still seen the index left its mark before that, so the mark is
    found, and the index is put back. Any other job finds no index, and downloads the source again.
    """
    if _is_used(entry, store):
        return Deleted()
    found = [*store.objects(entry)]
    indexes = {each.key: store.get_json(each.key) for each in found if is_cache_index(each.key)}
    for key in indexes:
        store.delete(key)
    if _is_used(entry, store):
        for key, index in indexes.items():
            store.put_json(key, index)
        return Deleted()
    for each in found:
        store.delete(each.key)
    return Deleted(len(found), sum(each.size for each in found))


def _is_used(entry: str, store: ArtifactStore) -> bool:
    return next(store.list(use_key(entry, "")), None) is not None
