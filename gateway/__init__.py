"""The edge: what faces the network. Holds no key, no SQL and no Merkle arithmetic."""
