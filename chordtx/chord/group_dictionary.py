"""The ring's records as a dict: each method is one operation at the leader of the key's group."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from math import ceil
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from chordtx.dictionary import DictMixin
from chordtx.errors import NotJoined, ProtocolError, ValueTooLarge
from chordtx.group import operations
from chordtx.group.messages import Answer
from chordtx.group.operations import ABSENT, DONE, TOO_LARGE, WRONG_TYPE
from chordtx.ring.partitions import partition_of

if TYPE_CHECKING:
    from chordtx.chord.client import GroupClient
    from chordtx.chord.ring_identity import RingIdentity

_PAGE_KEYS = 1000
#: Partitions that are asked for their keys at once.
_PARTITIONS_AT_ONCE = 64


class RingDict(DictMixin):
    """What of :class:`~chordtx.ChordService` is like a dict.

    Every operation on a key is linearizable, whatever fails. Every Deferred fails with
    :class:`~chordtx.errors.NoMajority` when the key's group does not answer in time: then nobody knows
    whether a change was made. Keys come by partition, in order within each.
    """

    if TYPE_CHECKING:
        _client: GroupClient
        _identity: RingIdentity | None

        def _ring_known(self) -> Deferred[RingIdentity]: ...

    async def _read_packed(self, key: bytes) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        answer = await self._do(operations.GET, key)
        if answer.status == ABSENT:
            return None
        value: bytes = _parts(answer, 3)[0]
        return value

    async def _write_packed(self, key: bytes, blob: bytes, ttl: float | None) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        await self._do(operations.SET, key, blob, None if ttl is None else ceil(round(ttl * 1000, 3)))

    async def _delete_key(self, key: bytes) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        await self._do(operations.DELETE, key, None)

    async def _delete(self, key: bytes) -> None:
        if (await self._do(operations.DELETE, key, None)).status == ABSENT:
            raise KeyError(key)

    async def _pop(self, key: bytes, default: tuple[Any, ...]) -> Any:
        answer = await self._do(operations.TAKE, key)
        if answer.status == DONE:
            return self._unpacked(_blob(answer))
        if default:
            return default[0]
        raise KeyError(key)

    async def _write_fields(self, key: bytes, fields: dict[bytes, bytes]) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        packed = b"".join(name + value for name, value in fields.items())
        answer = await self._do(operations.DELTA, key, operations.map_header(len(fields)) + packed)
        if answer.status == WRONG_TYPE:
            raise TypeError("a delta can only be applied to a map")
        if answer.status == TOO_LARGE:
            raise ValueTooLarge("the map would be past the limits", answer.detail or 0, self._value_bytes_max)
        return _blob(answer)

    async def _contains(self, key: bytes) -> bool:
        return (await self._do(operations.GET, key)).status == DONE

    def _do(self, kind: int, key: bytes, *arguments: Any) -> Deferred[Answer]:
        identity = self._identity
        if identity is None:
            return Deferred.fromCoroutine(self._do_once_known(kind, key, arguments))
        return self._client.do(partition_of(key, identity.partition_bits), kind, key, arguments)

    async def _do_once_known(self, kind: int, key: bytes, arguments: tuple[Any, ...]) -> Answer:
        identity = await self._ring_known()
        return await self._client.do(partition_of(key, identity.partition_bits), kind, key, arguments)

    # Many keys

    async def _key_pages(self) -> AsyncGenerator[list[bytes], None]:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        async for entries in self._entry_pages(b"", with_values=False):
            yield [entry[0] for entry in entries]

    async def _entry_pages(
        self, prefix: bytes, *, with_values: bool
    ) -> AsyncGenerator[list[tuple[Any, ...]], None]:
        """All entries whose keys begin so, partition by partition; some partitions are asked ahead."""
        identity = await self._ring_known()
        ahead: deque[tuple[int, Deferred[Answer]]] = deque()
        waiting = iter(range(identity.partitions))

        def ask_ahead() -> None:
            while len(ahead) < _PARTITIONS_AT_ONCE:
                partition = next(waiting, None)
                if partition is None:
                    break
                ahead.append((partition, self._list(partition, prefix, None, with_values)))

        try:
            ask_ahead()
            while ahead:
                partition, asked = ahead.popleft()
                entries, has_more = _page(await asked)
                ask_ahead()
                if entries:
                    yield entries
                while has_more:
                    last = entries[-1][0]
                    entries, has_more = _page(await self._list(partition, prefix, last, with_values))
                    if entries:
                        yield entries
        finally:
            for _, asked in ahead:
                asked.addErrback(lambda _: None)
                asked.cancel()

    def _list(
        self, partition: int, prefix: bytes, after: bytes | None, with_values: bool
    ) -> Deferred[Answer]:
        return self._client.do(partition, operations.LIST, b"", (prefix, after, _PAGE_KEYS, with_values))


def _parts(answer: Answer, count: int) -> Any:
    if not isinstance(answer.detail, tuple) or len(answer.detail) != count:
        raise ProtocolError("an answer of another kind was expected")
    return answer.detail


def _page(answer: Answer) -> tuple[list[tuple[Any, ...]], bool]:
    entries, has_more = _parts(answer, 2)
    if has_more and not entries:
        raise ProtocolError("a page that brings nothing would be asked for again for ever")
    return entries, has_more


def _blob(answer: Answer) -> bytes:
    if answer.status != DONE or type(answer.detail) is not bytes:
        raise ProtocolError("a value was expected")
    return answer.detail


def not_known() -> NotJoined:
    """Why nothing can be asked."""
    return NotJoined("no ring is known yet")
