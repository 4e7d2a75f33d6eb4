"""Tells ``twistd`` and ``twist`` that there is a ``chord``.

Every ``twistd`` on the machine imports this file, so it imports nothing of chordtx: :class:`ServiceMaker`
loads ``chordtx.tap`` when somebody asks for it.
"""

from twisted.application.service import ServiceMaker

chord = ServiceMaker("chordtx", "chordtx.tap", "A Chord ring: a distributed dict", "chord")
