"""The dict methods of a node, for asyncio: each is one line, made of the method of Twisted's service.

A method of the ring only stands in :mod:`chordtx.aio.namespace`. A test compares all of them to Twisted's
services.
"""

from __future__ import annotations

from typing import Any

from chordtx.aio.bridge import awaited, iterated, plain
from chordtx.dictionary import DictMixin


class DictMethods:
    """Keys are bytes; str is taken as its UTF-8. Values are what msgpack carries: None, bool, int, float,
    str, bytes, list, dict; a tuple comes back as a list.

    ``await node[key]`` gives a value. ``node[key] = value`` and ``del node[key]`` start the work, and
    ``await node.flush()`` waits for it.
    """

    get = awaited(DictMixin.get)
    __getitem__ = awaited(DictMixin.__getitem__)
    contains = awaited(DictMixin.contains)
    set = awaited(DictMixin.set)
    setdefault = awaited(DictMixin.setdefault)
    delete = awaited(DictMixin.delete)
    pop = awaited(DictMixin.pop)
    popitem = awaited(DictMixin.popitem)
    apply_delta = awaited(DictMixin.apply_delta)
    update = awaited(DictMixin.update)
    get_many = awaited(DictMixin.get_many)
    count = awaited(DictMixin.count)
    copy = awaited(DictMixin.copy)
    clear = awaited(DictMixin.clear)
    keys = iterated(DictMixin.keys)
    items = iterated(DictMixin.items)
    values = iterated(DictMixin.values)
    __aiter__ = iterated(DictMixin.__aiter__)
    __setitem__ = plain(DictMixin.__setitem__)
    __delitem__ = plain(DictMixin.__delitem__)
    flush = awaited(DictMixin.flush)
    __contains__ = plain(DictMixin.__contains__)
    __len__ = plain(DictMixin.__len__)
    __iter__ = plain(DictMixin.__iter__)
    __bool__ = plain(DictMixin.__bool__)

    _service: Any
