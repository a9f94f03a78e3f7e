"""The overview."""

from typing import Any
from flows.review.library import Library


def overview(library: Library) -> dict[str, Any]:
    return {"datasets": library.shelves().values(), "needs": []}
