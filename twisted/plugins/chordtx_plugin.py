"""Tells ``twistd`` and ``twist`` that there is a ``chord``, and that endpoints may begin with ``chord:``.

Every ``twistd`` on the machine imports this file, so it imports nothing of chordtx: that is loaded when
somebody asks for it.
"""

from typing import Any

from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor
from twisted.plugin import IPlugin
from zope.interface import implementer

chord = ServiceMaker("chordtx", "chordtx.tap", "A Chord ring: a distributed dict", "chord")


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class _LazyParser:
    """:class:`chordtx.discovery.Parser`, once it is needed."""

    prefix = "chord"

    def __init__(self) -> None:
        self._parser: Any = None

    def parseStreamClient(self, reactor: Any, *arguments: str, **options: str) -> Any:
        if self._parser is None:
            from chordtx.discovery import Parser

            self._parser = Parser()
        return self._parser.parseStreamClient(reactor, *arguments, **options)


services_by_name = _LazyParser()
