"""What leaders answer, as the methods of the dict take it; and a time to live as they are told it."""

from __future__ import annotations

from math import ceil

from chordtx.errors import ProtocolError
from chordtx.group.messages import Answer
from chordtx.group.operations import DONE
from chordtx.group.operations import Entry as Listed
from chordtx.group.rank import Rank

_ANOTHER_KIND = "an answer of another kind was expected"


def ttl_ms(seconds: float | None) -> int | None:
    """What floats add below a microsecond must not count as one more millisecond."""
    return None if seconds is None else max(1, ceil(round(seconds * 1000, 3)))


def found_in(answer: Answer) -> tuple[bytes, int, Rank]:
    """What GET has found: value, when it expires, version."""
    found = answer.detail
    if not isinstance(found, tuple) or len(found) != 3 or isinstance(found, Rank):
        raise ProtocolError(_ANOTHER_KIND)
    return found


def value_in(answer: Answer) -> bytes:
    """The value that GET has found, packed."""
    return found_in(answer)[0]


def blob_in(answer: Answer) -> bytes:
    """The value that a change has made, or taken away, packed."""
    if answer.status != DONE or type(answer.detail) is not bytes:
        raise ProtocolError("a value was expected")
    return answer.detail


def number_in(answer: Answer) -> int | float:
    """The number that comes with an answer."""
    if type(answer.detail) not in (int, float):
        raise ProtocolError("a number was expected")
    return answer.detail  # type: ignore[return-value]


def count_in(answer: Answer) -> int:
    """The whole number that comes with an answer."""
    if type(answer.detail) is not int:
        raise ProtocolError("a whole number was expected")
    return answer.detail


def page_in(answer: Answer) -> tuple[list[Listed], bool]:
    """A page of a listing, and whether there are more."""
    found = answer.detail
    if not isinstance(found, tuple) or len(found) != 2:
        raise ProtocolError(_ANOTHER_KIND)
    entries, has_more = found
    if has_more and not entries:
        raise ProtocolError("a page that brings nothing would be asked for again for ever")
    return entries, has_more
