"""The ``chordtx`` command, for people and scripts.

``app`` has the group, and a module each family of commands; ``client`` and ``running`` have what a command
needs to become a node for its length. The global reactor is imported inside functions only.
"""

from __future__ import annotations


def main() -> None:
    """Run the ``chordtx`` command; ends with its exit status."""
    # Imported late: a ring's nodes import this package too (cli.child), and need none of click.
    from chordtx.cli.app import command
    from chordtx.cli.streams import reserve_numbers

    reserve_numbers()
    command(prog_name="chordtx")
