"""The block of stage records is saved on the server once; later processes only look it up."""

import contextlib

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from infra.prefect.results import BLOCK_NAME, BLOCK_TYPE, StageRecords, saved_block


def test_the_block_is_saved_once_and_found_again(stack, monkeypatch):
    saved_block.cache_clear()
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_block_document(client.read_block_document_by_name(BLOCK_NAME, BLOCK_TYPE).id)
    saves = []
    save = StageRecords.save
    monkeypatch.setattr(StageRecords, "save", lambda *args, **named: saves.append(save(*args, **named)))
    first = saved_block()._block_document_id
    for _ in range(2):
        saved_block.cache_clear()
        assert saved_block()._block_document_id == first
    assert len(saves) == 1
    with get_client(sync_client=True) as client:
        assert client.read_block_document_by_name(BLOCK_NAME, BLOCK_TYPE).id == first
    saved_block.cache_clear()
