"""Each name that programs rely on: that it is told what it does, and what it makes of bad input.

What each does otherwise stands in the tests of its service.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock

import chordtx
import chordtx.blocking
from chordtx import (
    ChordError,
    ChordService,
    ChordSettings,
    Limits,
    MeshService,
    MeshSettings,
    NoMajority,
    NotJoined,
    Stopped,
    SyncService,
    SyncSettings,
    ValueTooLarge,
    WrongSubnet,
)
from tests.sim.cluster import Cluster

Call = Callable[..., Any]
KEY_BYTES_MAX, VALUE_BYTES_MAX = 50, 1000
SETTINGS = {
    ChordService: ChordSettings(key_bytes_max=KEY_BYTES_MAX, value_bytes_max=VALUE_BYTES_MAX),
    SyncService: SyncSettings(key_bytes_max=KEY_BYTES_MAX, value_bytes_max=VALUE_BYTES_MAX),
    MeshService: MeshSettings(limits=Limits(frame_bytes_max=10_000, expanded_bytes_max=10_000)),
}


async def all_of(entries: AsyncIterator[Any]) -> list[Any]:
    return [entry async for entry in entries]


async def assigned(node: Any, key: Any, value: Any) -> None:
    node[key] = value
    await node.flush()


async def deleted(node: Any, key: Any) -> None:
    del node[key]
    await node.flush()


#: What takes a key and a value.
VALUED: dict[str, Call] = {
    "set": lambda node, key="key", value=1: node.set(key, value),
    "update": lambda node, key="key", value=1: node.update({key: value}),
    "apply_delta": lambda node, key="key", value=1: node.apply_delta(key, {"field": value}),
    "__setitem__": lambda node, key="key", value=1: assigned(node, key, value),
}
#: What takes a key.
KEYED: dict[str, Call] = {
    **VALUED,
    "get": lambda node, key="key": node.get(key),
    "__getitem__": lambda node, key="key": node[key],
    "contains": lambda node, key="key": node.contains(key),
    "delete": lambda node, key="key": node.delete(key),
    "__delitem__": lambda node, key="key": deleted(node, key),
    "pop": lambda node, key="key": node.pop(key),
    "get_many": lambda node, key="key": node.get_many([key]),
}
#: All that asks the dict.
DICT: dict[str, Call] = {
    **KEYED,
    "popitem": lambda node: node.popitem(),
    "count": lambda node: node.count(),
    "copy": lambda node: node.copy(),
    "keys": lambda node: all_of(node.keys()),
    "values": lambda node: all_of(node.values()),
    "items": lambda node: all_of(node.items()),
    "__aiter__": lambda node: all_of(node.__aiter__()),
}
MESH = {
    "connect",
    "disconnect",
    "on",
    "once",
    "recv",
    "register_handler",
    "remove_listener",
    "request_peers",
    "send",
}
EXACT = {"compare_and_set", "increment", "lock", "modify", "touch"}
RING = {"flush", "join", "next", "out_addr", "prev", "protocol", "status", "unjoin", "when_joined"}
NAMES: dict[Any, set[str]] = {
    MeshService: {*MESH, "incoming", "outgoing", "status"},
    ChordService: {*DICT, *RING, "entry", "entries", "namespace", "watch", "when_hearing", *EXACT},
    chordtx.Namespace: {*DICT, *EXACT, "entry", "entries", "flush", "namespace", "watch"},
    SyncService: {*DICT, "flush", "status"},
    chordtx.mesh.ReceivedMessage: {"reply"},
    chordtx.blocking.MeshSocket: {*MESH, "close", "status"},
    chordtx.blocking.ChordSocket: {*DICT, *MESH, *RING, "entry", "watch", *EXACT}
    - {"flush", "when_joined", "contains", "count", "__aiter__", "protocol"},
    chordtx.blocking.Lock: {"acquire", "is_held", "release", "token", "__enter__", "__exit__"},
    chordtx.blocking.Watch: {"close", "__enter__", "__exit__", "__iter__", "__next__"},
    chordtx.blocking.SyncSocket: {*DICT, *MESH, "status"} - {"contains", "count", "delete", "__aiter__"},
}
DICTS = [ChordService, SyncService]


def world_of(kind: Any) -> Cluster:
    return Cluster(kind)


def begun(kind: Any, **options: Any) -> tuple[Cluster, Any]:
    """A node that runs by itself."""
    world = world_of(kind)
    node = world.start(settings=SETTINGS[kind], **options)
    world.run(2)
    return world, node


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in NAMES for name in sorted(NAMES[kind])])
def test_name_is_described(kind: Any, name: str) -> None:
    described = inspect.getdoc(inspect.getattr_static(kind, name))
    if not name.startswith("__"):
        assert described
        assert len(described.split()) > 1
    assert kind.__doc__


def test_errors_are_of_one_tree() -> None:
    for name in ("NoMajority", "NotJoined", "WrongSubnet", "ValueTooLarge", "ProtocolError", "Stopped"):
        error = getattr(chordtx, name)
        assert issubclass(error, ChordError)
        assert error.__doc__
    assert issubclass(chordtx.NoMajorityTimeout, NoMajority)
    assert issubclass(chordtx.NoMajorityTimeout, TimeoutError)


@pytest.mark.parametrize("kind", DICTS)
@pytest.mark.parametrize("name", KEYED)
def test_key_that_is_none_is_refused(kind: Any, name: str) -> None:
    world, node = begun(kind)
    for key in (None, 1, 1.5, ("a",), object()):
        with pytest.raises(TypeError):
            world.result(KEYED[name](node, key))
    with pytest.raises(ValueTooLarge) as caught:
        world.result(KEYED[name](node, "k" * (KEY_BYTES_MAX + 1)))
    assert caught.value.limit_bytes == KEY_BYTES_MAX


@pytest.mark.parametrize("kind", DICTS)
@pytest.mark.parametrize("name", VALUED)
def test_value_that_cannot_be_kept_is_refused(kind: Any, name: str) -> None:
    world, node = begun(kind)
    for value in (object(), {1, 2}, 1 << 64, [lambda: None], "\ud800"):
        with pytest.raises(TypeError):
            world.result(VALUED[name](node, "key", value))
    with pytest.raises(ValueTooLarge) as caught:
        world.result(VALUED[name](node, "key", bytes(VALUE_BYTES_MAX)))
    assert caught.value.limit_bytes == VALUE_BYTES_MAX
    assert world.result(node.get("key")) is None


@pytest.mark.parametrize("kind", DICTS)
@pytest.mark.parametrize("name", DICT)
def test_closed_service_says_so(kind: Any, name: str) -> None:
    world, node = begun(kind)
    world.result(node.set("key", {}))
    world.result(node.stopService())
    with pytest.raises(Stopped):
        world.result(DICT[name](node))


@pytest.mark.parametrize("name", DICT)
def test_without_a_ring_that_is_told(name: str) -> None:
    world = world_of(ChordService)
    gone = world.start()
    world.kill(gone)
    node = world.start(gone, listen=None, settings=SETTINGS[ChordService], leech=True)
    with pytest.raises(NotJoined, match="no ring was reached"):
        world.result(node.when_joined())
    with pytest.raises((NotJoined, NoMajority)):
        world.result(DICT[name](node))


@pytest.mark.parametrize("kind", DICTS)
@pytest.mark.parametrize("name", ["__getitem__", "delete", "pop", "popitem", "__delitem__"])
def test_missing_key_is_a_key_error(kind: Any, name: str) -> None:
    world, node = begun(kind)
    with pytest.raises(KeyError):
        world.result(DICT[name](node))


def test_other_misuse_of_the_dict() -> None:
    for kind in DICTS:
        world, node = begun(kind)
        for ttl in (0, -1):
            with pytest.raises(ValueError, match="ttl"):
                node.set("key", 1, ttl=ttl)
        with pytest.raises(TypeError, match="default"):
            node.pop("key", 1, 2)
        with pytest.raises(TypeError, match="mapping"):
            node.apply_delta("key", [1])
        world.result(node.set("text", "no map"))
        with pytest.raises(TypeError, match="map"):
            world.result(node.apply_delta("text", {"a": 1}))
        assert world.result(node.flush()) is None


@pytest.mark.parametrize("kind", [MeshService, *DICTS])
def test_misuse_of_the_mesh(kind: Any) -> None:
    world, node = begun(kind)
    for address in (("", 1), ("host name", 1), ("10.0.0.9", 0), ("10.0.0.9", 65536), ("10.0.0.9", "x")):
        with pytest.raises(ValueError):
            node.connect(*address)
    with pytest.raises(ConnectError):
        world.result(node.connect("10.0.0.9", 4000))
    with pytest.raises(KeyError):
        node.disconnect("nobody")
    with pytest.raises(TypeError):
        node.send(object())
    assert node.recv() is None
    assert node.recv(5) == []
    for handler in (None, 5, lambda: None):
        with pytest.raises((ValueError, TypeError)):
            node.register_handler(handler)
    for register in (node.on, node.once):
        with pytest.raises(TypeError):
            register("message", 5)
        with pytest.raises(ValueError, match="do you mean 'message'"):
            register("mesage", print)
    with pytest.raises(KeyError):
        node.remove_listener("message", print)
    assert list(node.outgoing) == list(node.incoming) == node.awaiting_ids == []
    node.request_peers()  # of nobody
    world.result(node.stopService())
    with pytest.raises(Stopped):
        world.result(node.connect("10.0.0.9", 4000))
    node.send("nobody hears it")


@pytest.mark.parametrize(
    ("kind", "events"),
    [
        (MeshService, ("connect", "message")),
        (ChordService, ("connect", "message", "add", "delete", "reset")),
        (SyncService, ("connect", "message", "update", "delete")),
    ],
)
def test_events_of_each_service(kind: Any, events: tuple[str, ...]) -> None:
    _, node = begun(kind)
    for event in events:
        assert node.on(event, print) is print
        node.remove_listener(event, print)
    with pytest.raises(ValueError, match=f"the events are {', '.join(map(repr, events))}$"):
        node.on("nothing like it", print)


def test_message_too_large_to_send() -> None:
    _, node = begun(MeshService)
    with pytest.raises(ValueTooLarge):
        node.send(bytes(20_000))


@pytest.mark.parametrize("kind", [MeshService, *DICTS])
def test_constructor_refuses_what_makes_no_sense(kind: Any) -> None:
    world = world_of(kind)
    reactor = world.network.process("10.0.0.1")
    for wrong in (
        {"encryption": "ROT13"},
        {"peers": ["no port"]},
        {"peers": ["host:0"]},
        {"advertise": "nowhere"},
    ):
        with pytest.raises(ValueError):
            kind(reactor, **wrong)


@pytest.mark.parametrize("kind", [MeshService, *DICTS])
def test_nodes_of_another_subnet_are_told(kind: Any) -> None:
    world = world_of(kind)
    first = world.start(subnet="one")
    world.run(1)
    other = world.start(subnet="another")
    with pytest.raises(WrongSubnet):
        world.result(other.connect(first.reactor.host, 4000))


def test_joining_is_for_those_who_listen() -> None:
    world = world_of(ChordService)
    first = world.start()
    leech = world.start(first, listen=None, leech=True)
    world.run(2)
    with pytest.raises(ValueError, match="listen"):
        leech.join()
    assert world.result(leech.unjoin()) is None
    world.result(leech.stopService())
    world.result(first.stopService())
    for node in (leech, first):
        with pytest.raises(Stopped):
            world.result(node.when_joined())


#: What else a service has for its users. All that its parts need of it begins with an underscore: there is
#: nothing that a program could call by mistake, and wreck its node.
MORE = {
    MeshService: {"when_listening", "when_joined", "send_to", "sleep", "status", "out_addr", "protocol"},
    ChordService: {"clear", "setdefault", "ring", "leeching", "health", "set_aside", "order", "when_left"},
    SyncService: {"clear", "setdefault", "data", "metadata", "leasing"},
}
ATTRIBUTES = {"id", "id_10", "reactor", "settings", "subnet", "encryption", "routing_table", "awaiting_ids"}


@pytest.mark.parametrize("kind", [MeshService, ChordService, SyncService])
def test_nothing_else_is_public(kind: Any) -> None:
    node = kind(Clock(), listen=None)
    public = {name for name in {*dir(node), *vars(node)} if not name.startswith("_")} - {*dir(Service)}
    told = {*NAMES[MeshService], *MORE[MeshService], *ATTRIBUTES, *NAMES[kind], *MORE[kind]}
    assert public == {name for name in told if not name.startswith("_")}


def test_a_namespace_has_what_the_dict_of_a_node_has() -> None:
    names = ChordService(Clock(), listen=None).namespace("names")
    public = {name for name in {*dir(names), *vars(names)} if not name.startswith("_")}
    told = {*NAMES[chordtx.Namespace], "clear", "setdefault", "prefix"}
    assert public == {name for name in told if not name.startswith("_")}
    assert {*DICT, *EXACT} <= {*dir(names)}
