"""Whole rings on virtual time over a simulated network, with faults from a seed; the services unchanged."""
