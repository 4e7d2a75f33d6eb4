"""Nodes and peers that end with their test."""

from tests.mesh.conftest import mesh

__all__ = ["mesh"]
