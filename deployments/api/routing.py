"""A router whose GET routes also answer HEAD."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Router(APIRouter):
    """GET routes also answer HEAD; the OpenAPI document lists only GET."""

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        def both(handler: Handler) -> Handler:
            self.add_api_route(path, handler, methods=["GET"], **options)
            self.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
            return handler

        return both
