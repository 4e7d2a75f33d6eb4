"""Where a node keeps what its groups must not forget."""
