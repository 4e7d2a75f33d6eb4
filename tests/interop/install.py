"""Installs the published legacy peers that the interop tests run: ``python install.py py2p`` or ``js2p``.

Each goes into a folder of its own under ``.interop``, so that their old dependencies meet nothing of ours.
Uses the standard library alone. A stamp file says that it is done; nothing is installed twice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

INTEROP = Path(__file__).resolve().parents[2] / ".interop"
#: base58 3 dropped what py2p calls; cryptography makes py2p's certificates; snappy is one more compression.
PY2P_PACKAGES = ("py2p==0.7.878", "base58<3", "cryptography", "python-snappy")
#: js2p's own optional parts are left out (they ask for compilers), but for the two that it needs.
JS2P_PACKAGES = ("js2p@0.7.870", "node-forge@0.6", "zlibjs@0.2")
TRIES = 2


def run(*command: str, cwd: Path) -> None:
    """Run ``command``, and once more when it fails: registries have bad moments.

    :raises SystemExit: when it fails both times.
    """
    for _ in range(TRIES):
        if subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL).returncode == 0:
            return
    raise SystemExit(f"failed: {' '.join(command)}")


def install_py2p(folder: Path) -> bool:
    """Make a virtual environment with py2p. :returns: whether it is there."""
    venv.create(folder, clear=True, with_pip=True)
    python = str(folder / "bin" / "python")
    run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *PY2P_PACKAGES, cwd=folder)
    return True


def install_js2p(folder: Path) -> bool:
    """Make a ``node_modules`` with js2p. :returns: whether it is there.

    :raises SystemExit: without npm under ``CI=true``, where a test may not be left out.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            raise SystemExit("npm and node are needed for the tests with js2p, and CI may not leave them out")
        print("no npm and node here: the tests with js2p will be skipped")
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"private": true}\n')
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    run("npm", "install", *quiet, "--ignore-scripts", "--omit=optional", *JS2P_PACKAGES, cwd=folder)
    return True


def main(name: str) -> None:
    """Install the peer ``name`` and leave its stamp."""
    INTEROP.mkdir(exist_ok=True)
    print(f"installing {name} into {INTEROP.name}/{name}")
    install = {"py2p": install_py2p, "js2p": install_js2p}[name]
    if install(INTEROP / name):
        (INTEROP / f"{name}.stamp").touch()


if __name__ == "__main__":
    main(sys.argv[1])
