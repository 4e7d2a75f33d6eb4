"""A py2p node that does what it is told: JSON lines in, JSON lines out.

Run by the Python of py2p's environment. Standard input brings ``{"number": n, "do": name, ...arguments}``;
standard output answers ``{"number": n, "result": ...}`` or ``{"number": n, "error": kind, "message": text}``,
not always in the order asked: what may wait for the network runs in a thread of its own. Values are written
as ``json_values.py`` says. The end of the input, or ``close``, ends the program.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import threading


def wrap_socket(sock, keyfile=None, certfile=None, server_side=False, suppress_ragged_eofs=True):
    """What py2p asks of :mod:`ssl`, which Python 3.12 no longer has: TLS without verification."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certfile is not None:
        context.load_cert_chain(certfile, keyfile)
    return context.wrap_socket(sock, server_side=server_side, suppress_ragged_eofs=suppress_ragged_eofs)


if not hasattr(ssl, "wrap_socket"):
    ssl.wrap_socket = wrap_socket

import py2p
import py2p.chord
import py2p.mesh
import py2p.messages
import py2p.sync
from json_values import from_json, to_json

KINDS = {"chord": py2p.ChordSocket, "mesh": py2p.MeshSocket, "sync": py2p.SyncSocket}
EVENTS = ("connect", "message", "add", "delete", "update")


def text(node_id):
    """Ids are bytes in py2p; their text is shorter to look at."""
    return node_id.decode() if isinstance(node_id, bytes) else node_id


class Peer:
    """One py2p socket and what has been seen of it. Each ``do_NAME`` is a command."""

    def __init__(self):
        self.node = None
        self.events = []
        self.received = []

    def do_compression(self, methods):
        """Offer only ``methods`` (numbers) from now on, best before ``start``."""
        py2p.messages.compression[:] = methods

    def do_start(self, port, subnet="chord", encryption="Plaintext", kind="chord", host="127.0.0.1", **more):
        """Listen on ``host:port``. :returns: id, protocol id and the compression methods offered."""
        self.node = KINDS[kind](host, port, prot=py2p.Protocol(subnet, encryption), **more)
        for name in EVENTS:
            self.node.on(name, self._recorder(name))
        return {
            "id": text(self.node.id),
            "protocol": text(self.node.protocol.id),
            "compression": list(py2p.messages.compression),
        }

    def _recorder(self, name):
        def record(conn, *args):
            self.events.append([name, *args])

        return record

    def do_connect(self, host, port):
        """Connect to a peer."""
        self.node.connect(host, port)

    def do_join(self):
        """Begin to store."""
        self.node.join()

    def do_unjoin(self):
        """Cease to store.

        py2p hands its entries on in one thread while another one takes in more: Python ends its loop.
        """
        for _ in range(20):
            try:
                return self.node.unjoin()
            except RuntimeError as error:
                if "changed size during iteration" not in str(error):
                    raise
        raise RuntimeError("py2p was given entries each time that it was to hand them on")

    def do_be_about_to_unjoin(self):
        """As in the first moment of ``unjoin``: it takes nothing for its own, and has told nobody yet."""
        self.node.leeching = True

    def do_get(self, key, timeout_seconds=10):
        """The value, or py2p's own error."""
        if isinstance(self.node, py2p.ChordSocket):
            return self.node._ChordSocket__getitem(key, timeout=timeout_seconds)
        return self.node[key]

    def do_set(self, key, value):
        """Send the value on its way: py2p knows no acknowledgement."""
        self.node[key] = value

    def do_delete(self, key):
        """Delete, or KeyError when this node never heard of the key."""
        del self.node[key]

    def do_apply_delta(self, key, delta):
        """Merge a map. :returns: the map that py2p thinks is there now."""
        promise = self.node.apply_delta(key, delta)
        return None if promise is None else promise.get()

    def do_keys(self):
        """The keys that this node has heard of."""
        return sorted(self.node.keys())

    def do_send(self, args, type=0, flag=0):
        """A message to all: ``type`` is py2p's word for the sub-flag, ``flag`` for the type."""
        self.node.send(*args, type=type, flag=flag)

    def do_whisper(self, peer, packets):
        """Packets, the sub-flag first, to one connected ``peer`` (its id's text)."""
        self.node.routing_table[peer.encode()].send(py2p.flags.whisper, *packets)

    def do_renegotiate(self, peer, packets):
        """A renegotiation with one connected ``peer``."""
        self.node.routing_table[peer.encode()].send(py2p.flags.renegotiate, *packets)

    def do_recv(self, quantity=1):
        """Messages taken from the queue; their ``index`` is what ``reply`` wants."""
        taken = []
        while len(taken) < quantity:
            message = self.node.recv()
            if message is None:
                break
            self.received.append(message)
            taken.append(
                {
                    "index": len(self.received) - 1,
                    "packets": list(message.packets),
                    "sender": text(message.sender),
                    "time": message.time,
                    "id": message.id,
                }
            )
        return taken

    def do_reply(self, index, args):
        """Answer a message that ``recv`` gave."""
        self.received[index].reply(*args)

    def do_routing_table(self):
        """The peers behind finished handshakes."""
        return [
            {
                "id": text(peer_id),
                "addr": list(conn.addr or ()),
                "outgoing": bool(conn.outgoing),
                "leeching": getattr(conn, "leeching", None),
                "compression": list(conn.compression or ()),
            }
            for peer_id, conn in list(self.node.routing_table.items())
        ]

    def do_awaiting(self):
        """How many connections have not finished their handshake."""
        return len(self.node.awaiting_ids)

    def do_disconnect(self, peer):
        """Close the connection to ``peer``."""
        self.node.disconnect(self.node.routing_table[peer.encode()])

    def do_neighbours(self):
        """The ids of ``next`` and ``prev``, nil where there is none."""
        found = (self.node.next, self.node.prev)
        return [None if near is None else text(near.id) for near in found]

    def do_stored(self):
        """What lies in this node's tables: method, decimal position, value."""
        return [
            [text(method), str(position), value]
            for method, table in self.node.data.items()
            for position, value in list(table.items())
        ]

    def do_events(self):
        """All events so far: name, then arguments."""
        return self.events

    def do_status(self):
        """``Nominal``, or the tracebacks of what went wrong."""
        return self.node.status

    def do_close(self):
        """Close the socket."""
        if self.node is not None:
            self.node.close()


#: Commands that may wait for the network.
SLOW = frozenset({"get", "apply_delta", "connect"})


class Conversation:
    """The lines to and from whoever runs this program."""

    def __init__(self, peer, answers):
        self.peer = peer
        self.answers = answers
        self.lock = threading.Lock()

    def obey(self, command):
        """Do one command and answer it."""
        answer = {"number": command.pop("number")}
        try:
            method = getattr(self.peer, "do_" + command.pop("do"))
            answer["result"] = to_json(method(**{name: from_json(value) for name, value in command.items()}))
        except Exception as error:
            answer.update(error=type(error).__name__, message=str(error))
        with self.lock:
            self.answers.write(json.dumps(answer) + "\n")
            self.answers.flush()

    def hold(self, commands):
        """Obey until the input ends or ``close`` is done."""
        for line in commands:
            command = json.loads(line)
            what = command["do"]
            if what in SLOW:
                threading.Thread(target=self.obey, args=(command,), daemon=True).start()
            else:
                self.obey(command)
            if what == "close":
                break


def main():
    """Keep standard output for the answers: py2p prints there."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    Conversation(Peer(), answers).hold(sys.stdin)
    os._exit(0)  # py2p's threads and destructors would hold the program


if __name__ == "__main__":
    main()
