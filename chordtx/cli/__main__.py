"""``python -m chordtx.cli`` is ``chordtx``."""

from chordtx.cli import main

main()
