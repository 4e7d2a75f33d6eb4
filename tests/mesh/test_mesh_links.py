"""Links on real sockets: opening, the table of links, conflicts, refusals, silence, stopping."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from chordtx.config import MeshSettings
from chordtx.errors import NotJoined, Stopped, WrongSubnet
from chordtx.mesh import Address, Dialect, MeshConnection, MeshService, PeerLost
from chordtx.mesh.accepting import MeshFactory
from chordtx.wire import flags
from tests.mesh.peers import HOST, ManualPeer, Mesh, outcomes

QUICK = MeshSettings(
    ping_interval_seconds=0.1,
    silence_timeout_seconds_min=0.5,
    silence_timeout_seconds_max=0.6,
    half_open_seconds_max=1.0,
    handshake_timeout_seconds=0.4,
)


# Opening


@pytest_twisted.ensureDeferred
async def test_two_nodes_link_and_each_knows_who_connected(mesh: Mesh) -> None:
    first = await mesh.node()
    second = await mesh.node(first)
    await mesh.linked(first, second)
    assert list(second.outgoing) == [first.id]
    assert list(first.incoming) == [second.id]
    assert not [*second.incoming, *first.outgoing, *first.awaiting_ids, *second.awaiting_ids]
    link = first.routing_table[second.id]
    assert link.ours
    assert (link.id_10, link.address) == (second.id_10, second._own_address())


@pytest_twisted.ensureDeferred
async def test_nodes_hear_of_each_other_and_link(mesh: Mesh) -> None:
    nodes = await mesh.chain(4)
    await mesh.linked(*nodes)


@pytest_twisted.ensureDeferred
async def test_connect_gives_the_link_and_the_same_one_again(mesh: Mesh) -> None:
    first, second = await mesh.node(), await mesh.node()
    links = await DeferredList([first.connect(*second.out_addr) for _ in range(3)])
    assert len({id(link) for _, link in links}) == 1
    assert await first.connect(*second.out_addr) is first.routing_table[second.id]


@pytest.mark.parametrize("address", [("a b", 1), ("host", 0), ("host", 70_000), ("", 5)])
@pytest_twisted.ensureDeferred
async def test_connect_refuses_what_is_no_address(mesh: Mesh, address: tuple[str, int]) -> None:
    node = await mesh.node()
    with pytest.raises(ValueError):
        node.connect(*address)


@pytest_twisted.ensureDeferred
async def test_failure_to_connect_is_told_to_all_who_wait(mesh: Mesh, free_port: Any) -> None:
    node, port = await mesh.node(), free_port()
    for succeeded, _ in await DeferredList([node.connect(HOST, port) for _ in range(3)], consumeErrors=True):
        assert not succeeded
    assert not node.awaiting_ids
    node._connect_quietly(Address(HOST, port))
    with pytest.raises(NotJoined):
        await node._link_to(Address("", 0))


@pytest_twisted.ensureDeferred
async def test_attempt_that_one_caller_cancels_goes_on_for_the_other(mesh: Mesh) -> None:
    first, second = await mesh.node(), await mesh.node()
    cancelled, kept = first.connect(*second.out_addr), first.connect(*second.out_addr)
    outcomes(cancelled)
    cancelled.cancel()
    assert (await kept).id == second.id


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest_twisted.ensureDeferred
async def test_names_and_addresses_are_connected_to(mesh: Mesh, host: str) -> None:
    first, second = await mesh.node(), await mesh.node()
    link = await first.connect(host, second.out_addr[1])
    assert link.id == second.id


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "-", "xn--a", "_"])
@pytest_twisted.ensureDeferred
async def test_names_that_lead_nowhere_fail(mesh: Mesh, host: str) -> None:
    node = await mesh.node()
    with pytest.raises(Exception):  # noqa: B017 - as the resolver puts it
        await node.connect(host, 4444)
    assert not node.awaiting_ids


@pytest_twisted.ensureDeferred
async def test_ipv6(mesh: Mesh, free_port: Any) -> None:
    try:
        free_port("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    first = await mesh.node(listen=r"tcp6:0:interface=\:\:1")
    second = await mesh.node(listen=r"tcp6:0:interface=\:\:1", advertise=None)
    link = await second.connect(*first.out_addr)
    assert link.address == Address("::1", first.out_addr[1])
    await mesh.linked(first, second)
    third = await mesh.node()
    third._bootstrap.append(Address.parse(f"[::1]:{first.out_addr[1]}"))
    assert (await third._link_to(third._bootstrap[0])).id == first.id


@pytest.mark.parametrize("kind", ["bin", "str", "ours"])
@pytest_twisted.ensureDeferred
async def test_peer_that_connects_is_greeted_in_its_dialect(mesh: Mesh, kind: str) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node, kind)
    link = node.routing_table[peer.id]
    assert (link.dialect, link.ours, link.outgoing) == (peer.dialect, kind == "ours", False)
    await mesh.until(lambda: peer.heard(flags.PEERS), "peers")
    assert [message.payload[0] for message in peer.messages[:3]] == [
        flags.HELLO,
        flags.HANDSHAKE,
        flags.PEERS,
    ]
    (greeting,) = peer.heard(flags.HANDSHAKE)
    text = peer.dialect.text
    assert greeting[1:4] == (text(node.id), text(node._protocol_id), [HOST, node.out_addr[1]])
    assert peer.messages[1].sender == text(node.id)


@pytest.mark.parametrize("dialect", Dialect)
@pytest_twisted.ensureDeferred
async def test_peer_that_is_connected_to_is_greeted_in_its_dialect(mesh: Mesh, dialect: Dialect) -> None:
    node, peer = await mesh.node(), ManualPeer(dialect)
    link = await node.connect(HOST, await mesh.listening_peer(peer))
    assert (link.id, link.dialect, link.ours, link.outgoing) == (peer.id, dialect, False, True)
    await mesh.until(lambda: peer.heard(flags.PEERS), "peers")
    assert [message.payload[0] for message in peer.messages] == [flags.HANDSHAKE, flags.PEERS]


@pytest_twisted.ensureDeferred
async def test_second_handshake_of_the_same_peer_may_move_it(mesh: Mesh) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node, "str")
    peer.address = [HOST, 4321]
    peer.greet()
    await mesh.until(lambda: node.routing_table[peer.id].address == Address(HOST, 4321), "the other address")
    peer.id = "abc"
    peer.greet()
    await mesh.until(lambda: peer.lost, "the end")


@pytest_twisted.ensureDeferred
async def test_connect_is_emitted_when_the_table_is_no_longer_empty(mesh: Mesh) -> None:
    first, second, third = await mesh.node(), await mesh.node(), await mesh.node()
    emitted: list[Any] = []
    first.on("connect", emitted.append)
    await first.connect(*second.out_addr)
    await first.connect(*third.out_addr)
    assert emitted == [first]
    first.disconnect(second.id)
    first.disconnect(first.routing_table[third.id])
    await mesh.until(lambda: not first.routing_table, "nobody")
    with pytest.raises(KeyError):
        first.disconnect(second.id)
    await first.connect(*second.out_addr)
    assert emitted == [first, first]


@pytest_twisted.ensureDeferred
async def test_node_finds_the_network_again(mesh: Mesh) -> None:
    first = await mesh.node()
    second = await mesh.node(first)
    await mesh.linked(first, second)
    second.disconnect(first.id)
    await mesh.until(lambda: not second.routing_table, "nobody")
    await mesh.linked(first, second)


# Refusals


@pytest_twisted.ensureDeferred
async def test_wrong_subnet_is_told_to_both_ends(mesh: Mesh) -> None:
    first, second = await mesh.node(subnet="one"), await mesh.node(subnet="two")
    with pytest.raises(WrongSubnet) as raised:
        await second.connect(*first.out_addr)
    assert (raised.value.ours, raised.value.theirs) == (second._protocol_id, first._protocol_id)
    await mesh.until(lambda: len(mesh.logged("of another network")) == 2, "a line on both ends")
    assert [type(error) for error in second._refused] == [WrongSubnet]
    assert first._refused == []  # it is not who tried
    assert not first.routing_table
    assert not second.routing_table


@pytest.mark.parametrize("dialect", Dialect)
@pytest_twisted.ensureDeferred
async def test_legacy_peer_of_another_subnet_is_told_ours_and_refused(mesh: Mesh, dialect: Dialect) -> None:
    node, peer = await mesh.node(), ManualPeer(dialect, subnet="other")
    with pytest.raises(WrongSubnet):
        await node.connect(HOST, await mesh.listening_peer(peer))
    await mesh.until(lambda: peer.lost, "the end")
    assert len(peer.heard(flags.HANDSHAKE)) == 1


@pytest_twisted.ensureDeferred
async def test_node_does_not_link_to_itself(mesh: Mesh) -> None:
    node = await mesh.node()
    with pytest.raises(Exception, match="ourselves"):
        await node.connect(*node.out_addr)
    await mesh.until(lambda: not node._links, "the end of both ends")
    assert not node.routing_table


@pytest_twisted.ensureDeferred
async def test_stalled_handshakes_are_cut(mesh: Mesh) -> None:
    node = await mesh.node(settings=QUICK)
    silent = await mesh.peer(node, "silent")
    slow = await mesh.peer(node, "silent")
    slow.write(b"\0\0\1")
    half = await mesh.peer(node, "silent")
    half.say_hello()
    await mesh.until(lambda: silent.lost and slow.lost and half.lost, "the end of each")
    assert len(mesh.logged("handshake was not finished in time")) == 3
    assert not node.awaiting_ids
    quiet = ManualPeer()
    port = await mesh.listening_peer(quiet)
    quiet.greets_by_itself = False
    with pytest.raises(Exception, match="handshake was not finished"):
        await node.connect(HOST, port)


# Two links to one peer


def spy_closed(node: MeshService) -> list[str]:
    """Ids of peers that left the table of ``node``."""
    gone: list[str] = []
    closed = node._link_closed

    def link_closed(link: MeshConnection, reason: Exception) -> None:
        gone.append(str(link.id))
        closed(link, reason)

    node._link_closed = link_closed  # type: ignore[method-assign]
    return gone


@pytest.mark.parametrize("attempt", range(5))
@pytest_twisted.ensureDeferred
async def test_both_connect_at_once_and_keep_the_same_link(mesh: Mesh, attempt: int) -> None:
    mesh.rng.seed(attempt)
    first, second = await mesh.node(), await mesh.node()
    gone = [*spy_closed(first), *spy_closed(second)]
    await DeferredList([first.connect(*second.out_addr), second.connect(*first.out_addr)])
    await mesh.until(lambda: len(first._links) == len(second._links) == 1, "one link")
    greater = first if first.id_10 > second.id_10 else second
    other = second if greater is first else first
    assert list(greater.outgoing) == [other.id]
    assert list(other.incoming) == [greater.id]
    assert gone == []
    assert await greater.routing_table[other.id].call("ping", timeout_seconds=20.0) == []
    assert await other.routing_table[greater.id].call("ping", timeout_seconds=20.0) == []


@pytest_twisted.ensureDeferred
async def test_call_on_the_link_that_goes_can_be_made_on_the_one_that_stays(mesh: Mesh) -> None:
    first, second = await mesh.node(), await mesh.node()
    waiting: list[Deferred[list[Any]]] = []

    def wait(caller: Any) -> Deferred[list[Any]]:
        waiting.append(Deferred())
        return waiting[-1]

    first._methods["wait"] = second._methods["wait"] = wait
    smaller, greater = sorted((first, second), key=lambda node: node.id_10)
    going = await smaller.connect(*greater.out_addr)
    calls = [outcomes(going.call("wait", timeout_seconds=20.0))]
    await mesh.until(lambda: waiting, "the call")
    calls.append(outcomes(greater.routing_table[smaller.id].call("wait", timeout_seconds=20.0)))
    await mesh.until(lambda: len(waiting) == 2, "the other call")
    factory = MeshFactory(greater, outgoing=True, dialled=smaller._own_address())
    staying = await greater._dialing.endpoint(smaller._own_address()).connect(factory)
    await mesh.until(lambda: all(calls), "the end of both calls")
    assert [type(outcome[0]) for outcome in calls] == [PeerLost, PeerLost]
    assert greater.routing_table[smaller.id] is staying
    assert not smaller.routing_table[greater.id].outgoing
    assert not smaller.routing_table[greater.id].closed


@pytest_twisted.ensureDeferred
async def test_second_link_of_the_same_side_is_closed_while_the_first_lives(mesh: Mesh) -> None:
    first, second = await mesh.node(), await mesh.node()
    gone = spy_closed(second)
    older = await first.connect(HOST, second.out_addr[1])
    assert await first.connect("localhost", second.out_addr[1]) is older
    await mesh.until(lambda: len(first._links) == len(second._links) == 1, "one link")
    assert first.routing_table[second.id] is older
    assert await second.routing_table[first.id].call("ping", timeout_seconds=20.0) == []
    assert gone == []


# Silence


@pytest.mark.parametrize("kind", ["bin", "str", "ours"])
@pytest_twisted.ensureDeferred
async def test_peer_that_falls_silent_is_asked_and_then_given_up(mesh: Mesh, kind: str) -> None:
    node = await mesh.node(settings=QUICK)
    reasons: list[Exception] = []
    node._link_closed = lambda link, reason: reasons.append(reason)  # type: ignore[method-assign]
    peer = await mesh.peer(node, kind)
    asked = flags.CALL if kind == "ours" else flags.REQUEST
    await mesh.until(lambda: peer.heard(asked), "a question")
    if kind != "ours":
        assert peer.heard(asked)[0][1] == peer.dialect.text("*")
    await mesh.until(lambda: peer.lost, "the end")
    assert [type(reason) for reason in reasons] == [TimeoutError]


@pytest_twisted.ensureDeferred
async def test_peer_whose_calls_take_long_is_alive(mesh: Mesh) -> None:
    first, second = await mesh.node(settings=QUICK), await mesh.node(settings=QUICK)
    first._methods["wait"] = lambda caller, seconds: first.sleep(seconds).addCallback(lambda _: ["done"])
    link = await second.connect(*first.out_addr)
    longer_than_silence = 4 * QUICK.silence_timeout_seconds_max
    assert await link.call("wait", longer_than_silence, timeout_seconds=60.0) == ["done"]
    assert not link.closed


@pytest.mark.parametrize("kind", ["bin", "ours"])
@pytest_twisted.ensureDeferred
async def test_peer_that_never_finishes_a_frame_is_cut(mesh: Mesh, kind: str) -> None:
    node = await mesh.node(settings=QUICK)
    peer = await mesh.peer(node, kind)
    peer.write(b"\0\1\0\0")
    sent = 0
    while not peer.lost:
        peer.write(b"x")
        sent += 1
        assert sent < 5000
        await node.sleep(0.02)
    assert mesh.logged("begun and not finished")


@pytest_twisted.ensureDeferred
async def test_process_that_stood_still_judges_nobody_before_it_has_read(mesh: Mesh) -> None:
    node = await mesh.node(settings=QUICK)
    peer = await mesh.peer(node)
    link = node.routing_table[peer.id]
    judged: list[bool] = []
    link.watch = lambda now, excused: judged.append(excused)  # type: ignore[method-assign]
    await mesh.until(lambda: False in judged, "a round")
    judged.clear()
    node._keepalive._due -= 100.0
    await mesh.until(lambda: len(judged) >= 2, "two rounds")
    assert judged[0]


# Stopping


@pytest_twisted.ensureDeferred
async def test_stop_ends_links_handshakes_and_attempts_under_way(mesh: Mesh) -> None:
    node, other = await mesh.node(), await mesh.node()
    await node.connect(*other.out_addr)
    silent = await mesh.peer(node, "silent")
    quiet = ManualPeer()
    port = await mesh.listening_peer(quiet)
    quiet.greets_by_itself = False
    waiting = [
        outcomes(node.connect(HOST, port)),
        outcomes(node.connect("192.0.2.1", 4444)),
        outcomes(node.connect("localhost", port)),
        outcomes(node.send_to("abc", "x")),
        outcomes(node._run(_sleep(node))),
    ]
    await mesh.until(lambda: len(node._links) >= 3, "links in every state")
    await DeferredList([node.stopService(), node.stopService()])
    assert not node._links
    assert not node.routing_table
    assert not node.awaiting_ids
    await mesh.until(lambda: all(waiting) and silent.lost, "the end of all who wait")
    assert all(isinstance(outcome[0], Exception) for outcome in waiting)
    with pytest.raises(Stopped):
        await node.connect(*other.out_addr)
    await node.stopService()


async def _sleep(node: MeshService) -> None:
    await node.sleep(1000.0)


@pytest_twisted.ensureDeferred
async def test_stop_does_not_wait_for_a_peer_that_does_not_read(mesh: Mesh) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node)
    transport: Any = peer.transport
    transport.pauseProducing()
    for _ in range(20):
        node.routing_table[peer.id].send(flags.WHISPER, bytes(1 << 20))
    await node.stopService()
    assert not node._links


@pytest_twisted.ensureDeferred
async def test_node_that_was_stopped_starts_again(mesh: Mesh) -> None:
    first, second = await mesh.node(), await mesh.node()
    await first.connect(*second.out_addr)
    await first.stopService()
    first.startService()
    first.startService()
    await first.when_listening()
    await second.connect(*first.out_addr)
    await mesh.linked(first, second)


@pytest_twisted.ensureDeferred
async def test_stop_right_after_start(mesh: Mesh) -> None:
    other = await mesh.node()
    node = MeshService(
        mesh.reactor, listen="tcp:0:interface=127.0.0.1", peers=[f"{HOST}:{other.out_addr[1]}"]
    )
    node.startService()
    listening = outcomes(node.when_listening())
    await node.stopService()
    assert listening
    assert isinstance(outcomes(node.when_listening())[0], Stopped)


@pytest_twisted.ensureDeferred
async def test_failure_to_leave_does_not_keep_the_node_running(mesh: Mesh, flush_logged_errors: Any) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node)

    async def leave() -> None:
        raise AttributeError("a bug")

    node._leave = leave  # type: ignore[method-assign]
    await node.stopService()
    assert len(flush_logged_errors(AttributeError)) == 1
    await mesh.until(lambda: peer.lost, "the end")


@pytest_twisted.ensureDeferred
async def test_port_that_is_taken_is_told(mesh: Mesh) -> None:
    first = await mesh.node()
    node = MeshService(mesh.reactor, listen=f"tcp:{first.out_addr[1]}:interface=127.0.0.1")
    mesh.nodes.append(node)
    node.startService()
    with pytest.raises(CannotListenError):
        await node.when_listening()
    silent = MeshService(mesh.reactor, listen=f"tcp:{first.out_addr[1]}:interface=127.0.0.1")
    mesh.nodes.append(silent)
    silent.startService()
    assert mesh.logged("cannot start")


def test_settings_that_make_no_sense_are_told() -> None:
    for wrong in ({"encryption": "ROT13"}, {"peers": ["nowhere"]}, {"advertise": "host:0"}):
        with pytest.raises(ValueError):
            MeshService(Clock(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        MeshService(Clock(), settings=MeshSettings(accepted_max=0))
