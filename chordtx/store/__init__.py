"""Durable storage: the SQLite file of a node's groups, and the data folder around it."""
