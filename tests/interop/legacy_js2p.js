// A js2p node that does what it is told: the same JSON lines as legacy_py2p.py, see there. The folder with js2p's
// node_modules is the first argument.

"use strict";

const path = require("path");
const readline = require("readline");

console.log = console.error; // standard output is for the answers, and js2p prints there
console.warn = console.error;

const js2p = require(path.join(path.resolve(process.argv[2]), "node_modules", "js2p"));

const KINDS = { chord: ["chord", "ChordSocket"], mesh: ["mesh", "MeshSocket"], sync: ["sync", "SyncSocket"] };
const EVENTS = ["connect", "message", "add", "delete", "update"];

let node = null;
const events = [];
const received = [];

// Buffers become {"$bytes": hex}, big integers plain numbers.
function toJson(value) {
    if (value === undefined || value === null) {
        return null;
    }
    if (value instanceof Uint8Array) {
        return { $bytes: Buffer.from(value).toString("hex") };
    }
    if (Array.isArray(value)) {
        return value.map(toJson);
    }
    if (typeof value === "object") {
        if (typeof value.toJSNumber === "function") {
            return value.toJSNumber();
        }
        if (typeof value.toNumber === "function") {
            return value.toNumber();
        }
        return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toJson(inner)]));
    }
    return value;
}

function fromJson(value) {
    if (Array.isArray(value)) {
        return value.map(fromJson);
    }
    if (value !== null && typeof value === "object") {
        if (typeof value.$bytes === "string") {
            return Buffer.from(value.$bytes, "hex");
        }
        if (Array.isArray(value.$map)) {
            return Object.fromEntries(value.$map.map(([key, inner]) => [fromJson(key).toString(), fromJson(inner)]));
        }
        return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, fromJson(inner)]));
    }
    return value;
}

const text = (id) => (id === null || id === undefined ? null : id.toString());

function connectionTo(peer) {
    for (const [id, conn] of node.routing_table) {
        if (text(id) === peer) {
            return conn;
        }
    }
    throw new Error(`not connected to ${peer}`);
}

const commands = {
    compression({ methods }) {
        js2p.base.compression.splice(0, js2p.base.compression.length, ...methods);
    },

    start({ port, subnet = "chord", encryption = "Plaintext", kind = "chord", host = "127.0.0.1", leasing }) {
        const [module, name] = KINDS[kind];
        const protocol = new js2p.base.Protocol(subnet, encryption);
        const rest = kind === "sync" ? [leasing] : [];
        node = new js2p[module][name](host, port, protocol, ...rest);
        for (const event of EVENTS) {
            node.on(event, (conn, ...args) => events.push([event, ...args]));
        }
        const about = { id: node.id, protocol: node.protocol.id, compression: [...js2p.base.compression] };
        return new Promise((resolve, reject) => {
            node.incoming.once("listening", () => resolve(about));
            node.incoming.once("error", reject);
        });
    },

    connect({ host, port }) {
        node.connect(host, port);
    },

    join() {
        node.join();
    },

    unjoin() {
        node.unjoin();
    },

    get({ key, timeout_seconds = 10 }) {
        return node.get(key, undefined, timeout_seconds);
    },

    set({ key, value }) {
        node.set(key, value);
    },

    delete({ key }) {
        node.del(key);
    },

    apply_delta({ key, delta }) {
        return node.apply_delta(key, delta);
    },

    keys() {
        return [...node.keys()];
    },

    send({ args, type = 0, flag = 0 }) {
        node.send(args, flag, type);
    },

    whisper({ peer, packets }) {
        connectionTo(peer).send(js2p.base.flags.whisper, packets);
    },

    recv({ quantity = 1 }) {
        return node.recv(quantity).map((message) => {
            received.push(message);
            return {
                index: received.length - 1,
                packets: message.packets,
                sender: text(message.sender),
                time: message.time,
                id: message.id,
            };
        });
    },

    reply({ index, args }) {
        received[index].reply(args);
    },

    routing_table() {
        return [...node.routing_table].map(([id, conn]) => ({
            id: text(id),
            addr: conn.addr || [],
            outgoing: Boolean(conn.outgoing),
            leeching: conn.leeching === undefined ? null : conn.leeching,
            compression: [...conn.compression],
        }));
    },

    awaiting() {
        return node.awaiting_ids.length;
    },

    disconnect({ peer }) {
        node.disconnect(connectionTo(peer));
    },

    neighbours() {
        return [node.next, node.prev].map((near) => (near ? text(near.id) : null));
    },

    stored() {
        return Object.entries(node.data).flatMap(([method, table]) =>
            Object.entries(table).map(([position, value]) => [method, position, value]),
        );
    },

    events() {
        return events;
    },

    status() {
        return node.status === "Nominal" ? "Nominal" : node.status.map((error) => (error && error.stack) || `${error}`);
    },

    close() {
        if (node !== null) {
            node.close();
        }
    },
};

function say(answer) {
    return new Promise((resolve) => process.stdout.write(JSON.stringify(answer) + "\n", resolve));
}

async function obey(line) {
    const { number, do: what, ...args } = JSON.parse(line);
    try {
        await say({ number, result: toJson(await commands[what](fromJson(args))) });
    } catch (error) {
        await say({ number, error: error.name || "Error", message: `${error.message || error}` });
    }
    if (what === "close") {
        process.exit(0);
    }
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", obey);
lines.on("close", () => process.exit(0));
