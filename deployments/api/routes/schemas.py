"""JSON Schemas of the documents that clients write."""

from typing import Any

from deployments.api.routing import Router
from tasks.core.edit.document import edit_schema

router = Router()


@router.get("/api/schema/edit", summary="JSON Schema of the edit document")
async def describe_edit() -> dict[str, Any]:
    return edit_schema()
