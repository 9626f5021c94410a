"""The authorization ledger: what may be claimed to have happened, and the proof of it."""
