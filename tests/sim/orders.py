"""The plain way to judge a short history: every order of its operations is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import TypeVar

T = TypeVar("T")


def is_explained_by_any_order(
    certain: Sequence[T], open_ends: Sequence[T], is_right: Callable[[Sequence[T]], bool]
) -> bool:
    """Whether some order is right of what was answered, and of any of what may have happened or not."""
    return any(
        is_right(order)
        for count in range(len(open_ends) + 1)
        for happened in combinations(open_ends, count)
        for order in permutations([*certain, *happened])
    )
