"""What the links of one node share: the turns of the reactor, and bounds on what all hold together."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from chordtx.config import MeshSettings
from chordtx.mesh.pool import Pool
from chordtx.mesh.turns import Turns


@frozen
class LinkBounds:
    """See the module. One for each node.

    :ivar turns: who works when. :ivar unsent: bytes that wait to be sent. :ivar unfinished: bytes of frames
        whose rest has not come.
    """

    turns: Turns
    unsent: Pool
    unfinished: Pool

    @classmethod
    def of(cls, reactor: Any, settings: MeshSettings) -> LinkBounds:
        """As the settings say."""
        return cls(
            Turns(reactor, settings.turn_seconds_max),
            Pool(settings.unsent_bytes_max, settings.unsent_to_members_bytes_max),
            Pool(settings.unfinished_bytes_max),
        )
