"""Child processes of an embedded deployment (`env = "test"` only)."""
