"""Whether one register after another could have told clients what they were told, exact operations included.

A history of one key is linearizable when each operation can be given an instant between its call and its
answer such that, in the order of these instants, each answer is right (Herlihy and Wing, 1990). The search is
the one of Wing and Gong (1993) with memory. An operation without an answer may have happened, or not. Pure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
from attrs import define

from chordtx.group.operations import (
    ABSENT,
    COMPARE_AND_SET,
    CONFLICT,
    DELETE,
    DONE,
    GET,
    INCREMENT,
    NAMES,
    SET,
    TAKE,
    TOUCH,
)

Writer = tuple[bytes, int] | None


class Register(NamedTuple):
    """What is there.

    :ivar writer: whose operation wrote it: it stands for its version.
    :ivar may_expire: it was written with a time to live, so that it may be gone at any later moment.
    """

    value: bytes | None = None
    writer: Writer = None
    may_expire: bool = False


NOTHING = Register()


@define(eq=False)
class Call:
    """One operation of one client.

    :ivar arguments: with writers in place of versions. :ivar began: when it was called.
    :ivar ended: when it was answered; None while it is not. :ivar result: as the client was told.
    """

    id: tuple[bytes, int]
    kind: int
    key: bytes
    arguments: tuple[Any, ...]
    began: int
    ended: int | None = None
    result: Any = None

    def __str__(self) -> str:
        client, number = self.id
        what = f"{client.decode()}{number} {NAMES[self.kind]}{self.arguments}"
        return f"{what} [{self.began},{self.ended}] -> {self.result}"


def applied(call: Call, register: Register) -> tuple[Register, Any]:
    """What an operation makes of a register, and what it answers."""
    value, writer, _ = register
    kind, arguments = call.kind, call.arguments
    after: Register
    if kind == GET:
        return register, (ABSENT, None) if value is None else (value, writer)
    if kind == SET:
        return _written(call, arguments[0], arguments[1]), (DONE, None)
    if kind == DELETE:
        return NOTHING, (ABSENT, None) if value is None else (DONE, None)
    if kind == COMPARE_AND_SET:
        if writer != arguments[0]:
            return register, (CONFLICT, writer)
        return _written(call, arguments[1], arguments[2]), (DONE, None)
    if kind == INCREMENT:
        total = arguments[0] + (0 if value is None else msgpack.unpackb(value))
        after = Register(msgpack.packb(total), call.id, register.may_expire)
        return after, (DONE, total)
    if kind == TAKE:
        return NOTHING, (ABSENT, None) if value is None else (DONE, value)
    assert kind == TOUCH
    if value is None:
        return NOTHING, (ABSENT, None)
    return Register(value, call.id, arguments[0] is not None), (DONE, None)


def _written(call: Call, value: bytes | None, expires: Any) -> Register:
    return NOTHING if value is None else Register(value, call.id, expires is not None)


def explains(calls: list[Call]) -> bool:
    """Whether there is an order that explains all answers to one key's calls."""
    calls = [call for call in calls if call.ended is not None or call.kind != GET]
    seen: set[tuple[int, Register]] = set()
    needed = sum(1 << place for place, call in enumerate(calls) if call.ended is not None)
    todo = [(0, NOTHING)]
    while todo:
        done, register = todo.pop()
        if (done & needed) == needed:
            return True
        if (done, register) in seen:
            continue
        seen.add((done, register))
        if register.may_expire:
            todo.append((done, NOTHING))
        ends = [
            call.ended for place, call in enumerate(calls) if not done >> place & 1 and call.ended is not None
        ]
        first = min(ends)
        for place, call in enumerate(calls):
            if not done >> place & 1 and call.began < first:
                after, result = applied(call, register)
                if call.ended is None or result == call.result:
                    todo.append((done | 1 << place, after))
    return False
