"""One partition's replicated state: who decides, in which order, and what is stored.

Pure: events in, effects out. No Twisted, no clock, no randomness of its own.

Read in this order: :mod:`~chordtx.group.rank`, :mod:`~chordtx.group.configuration` and
:mod:`~chordtx.group.state` (what there is), :mod:`~chordtx.group.messages` (what is said),
:mod:`~chordtx.group.replica` (a member), :mod:`~chordtx.group.candidate` and :mod:`~chordtx.group.leader`
(who leads), :mod:`~chordtx.group.group` (all of it for one partition), :mod:`~chordtx.group.groups` (all
partitions of a node).
"""
