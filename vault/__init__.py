"""Custody: the only code that turns card digits into ciphertext and back.

Nothing here imports `gateway`. Usable as a library. "Vault" alone is this package;
HashiCorp's product (or OpenBao) is always named in full, and its engine is `Transit`.
"""
