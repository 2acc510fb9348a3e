"""Routes as HTTP has them: what can be got can also be asked for its headers."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Router(APIRouter):
    """A router whose GET routes answer HEAD too; the description of the API names GET alone."""

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        def both(handler: Handler) -> Handler:
            self.add_api_route(path, handler, methods=["GET"], **options)
            self.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
            return handler

        return both
