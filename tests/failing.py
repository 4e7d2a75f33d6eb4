"""Loops of a service, made to fail."""

from __future__ import annotations

from typing import Any


def failing_once(loop: Any, error: Exception) -> list[int]:
    """Have the next round of a loop raise ``error``.

    :returns: the failure, once it has come.
    """
    true_round, failed = loop._round, []

    def fails() -> Any:
        if failed:
            return true_round()
        failed.append(1)
        raise error

    loop._round = fails
    return failed
