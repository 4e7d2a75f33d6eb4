"""The numbers of the protocol: message types, sub-flags and compression methods.

Plain ``int`` constants; knows nothing else. Source: the p2p-project 0.7 protocol. Sub-flags from 0x30 up
are free for extensions, and a peer that does not know one ignores the message: ours begin at 0x40.
"""

from __future__ import annotations

from typing import Final

# Types, the first entry of a message. The sub-flags of user messages have the same numbers.
BROADCAST: Final = 0x00
RENEGOTIATE: Final = 0x01
WHISPER: Final = 0x02

# Sub-flags, the first entry of a payload.
COMPRESSION: Final = 0x01
PING: Final = 0x03
PONG: Final = 0x04
HANDSHAKE: Final = 0x05
NOTIFY: Final = 0x06
PEERS: Final = 0x07
REQUEST: Final = 0x08
RESEND: Final = 0x09
RESPONSE: Final = 0x0A
STORE: Final = 0x0B
RETRIEVE: Final = 0x0C
RETRIEVED: Final = 0x0D
FORWARD: Final = 0x0E
NEW_PATHS: Final = 0x0F
REVOKE_PATHS: Final = 0x10
DELTA: Final = 0x11

# Sub-flags of our extension.
HELLO: Final = 0x40
CALL: Final = 0x41
REPLY: Final = 0x42
ANNOUNCE: Final = 0x43
STANDING: Final = 0x44
GROUPS: Final = 0x45
REFUSAL: Final = 0x46
LEGACY: Final = 0x47

# Compression methods.
BZ2: Final = 0x10
GZIP: Final = 0x11
LZMA: Final = 0x12
ZLIB: Final = 0x13
SNAPPY: Final = 0x20
