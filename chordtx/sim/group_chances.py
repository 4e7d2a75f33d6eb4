"""What may happen in a search of groups beside the arrival of messages, made of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from chordtx.group.configuration import Member
from chordtx.group.group import Group
from chordtx.group.leader import LEADING
from chordtx.group.messages import Operation
from chordtx.group.rank import NO_BALLOT, NO_RANK, NodeId
from chordtx.sim.group_plans import Plan
from chordtx.sim.group_world import GroupWorld, Host, evict

KEY = b"k"
Test = Callable[[Host], bool]


class Chance(NamedTuple):
    """One of them.

    :ivar times: how often. :ivar hosts: to whom. :ivar may: whether a host is such that it can.
    :ivar happen: lets it. :ivar operation: that a client sends by this. :ivar partition: its.
    """

    name: str
    times: int
    hosts: tuple[NodeId, ...]
    may: Test
    happen: Callable[[GroupWorld, NodeId], None]
    operation: Operation | None = None
    partition: int = 0


def chances_of(plan: Plan) -> Iterator[Chance]:
    """Those of a plan."""
    ids = (*plan.members, *plan.spares)
    for partition in range(plan.partitions):
        yield from _of_partition(plan, partition, ids)
    for client, (partition, kind, arguments) in zip(_CLIENTS, plan.operations, strict=False):
        operation = Operation(client, 1, 0, NO_RANK, kind, KEY, arguments)
        yield Chance(
            f"{client.decode()} sends {operation}",
            plan.tries,
            ids,
            _serves(partition),
            _sending(operation, partition),
            operation,
            partition,
        )
    yield Chance("crash", plan.crashes, plan.crash, _has_promised, _crash)
    if plan.confirm:
        yield Chance("confirm", 1, ids, _leads(0), _confirm)
    yield Chance("tick", plan.ticks, ids, _is_up, _tick)
    if not plan.syncs:
        yield Chance("sync", -1, ids, lambda host: bool(host.unsynced), lambda world, id: world.sync(id))


_CLIENTS = (b"A", b"B", b"C")


def _of_partition(plan: Plan, partition: int, ids: tuple[NodeId, ...]) -> Iterator[Chance]:
    leads = _leads(partition)

    def chance(name: str, hosts: tuple[NodeId, ...], may: Test, what: Callable[[Group], object]) -> Chance:
        return Chance(name, 1, hosts, may, lambda world, id: world.on_group(id, what, partition))

    for id in plan.stand:
        yield chance("stand", (id,), _is_up, lambda group: group.stand(trial=False))
    for id in plan.ask:
        yield chance("ask", (id,), _is_up, lambda group: group.stand())
    if plan.seal:
        members = tuple(Member(id) for id in plan.seal)
        yield chance("seal", ids, leads, lambda group: group.seal(members))
    if plan.change:
        wanted = tuple(Member(id) for id in plan.change)
        yield chance("change", ids, leads, lambda group: group.change_members(wanted))
    if plan.evict:
        yield chance("evict", ids, leads, evict)
    if plan.hand is not None:
        to = plan.hand
        yield chance("hand over", ids, leads, lambda group: group.hand_over(to))
    for id in plan.force:
        yield chance("force", (id,), _is_up, lambda group: group.force())
        yield chance("force now", (id,), _is_up, lambda group: group.force_now())


def _is_up(host: Host) -> bool:
    return host.is_up


def _leads(partition: int) -> Test:
    def may(host: Host) -> bool:
        group = None if host.groups is None else host.groups.groups.get(partition)
        return group is not None and group.leader is not None and group.leader.stage == LEADING

    return may


def _serves(partition: int) -> Test:
    def may(host: Host) -> bool:
        group = None if host.groups is None else host.groups.groups.get(partition)
        return group is not None and group.is_leading

    return may


def _has_promised(host: Host) -> bool:
    groups = {} if host.groups is None else host.groups.groups
    return any(group.replica.promised != NO_BALLOT for group in groups.values())


def _sending(operation: Operation, partition: int) -> Callable[[GroupWorld, NodeId], None]:
    return lambda world, id: world.do(id, operation, partition)


def _crash(world: GroupWorld, id: NodeId) -> None:
    world.crash(id)
    world.restart(id)


def _confirm(world: GroupWorld, id: NodeId) -> None:
    others = [other for other in world.hosts if other != id]
    world.event(id, lambda groups: groups.turn.to_confirm.update(others))


def _tick(world: GroupWorld, id: NodeId) -> None:
    world.event(id, lambda groups: groups.tick())
