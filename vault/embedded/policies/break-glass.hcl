# The login of one irreversible or alarming act at a time, on an operator's word. It opens no
# card and makes no signature, but for that of a root over a new issuer.
path "sys/seal" {
  capabilities = ["update", "sudo"]
}

# Ends old versions of `pan`: ciphertexts that nobody rewrapped are lost with them.
path "transit/keys/pan/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "transit/keys/pan/trim" {
  capabilities = ["update"]
}

# A new version changes fingerprints, digests and the keys that verifiers know.
path "transit/keys/fingerprint/rotate" {
  capabilities = ["update"]
}
path "transit/keys/digest/rotate" {
  capabilities = ["update"]
}
path "transit/keys/ledger/rotate" {
  capabilities = ["update"]
}
path "transit/keys/edge-sign/rotate" {
  capabilities = ["update"]
}

# For an auditor who has to find a known value in the audit log.
path "sys/audit-hash/+" {
  capabilities = ["update"]
}

# A new certificate authority beside the old one, in force when clients trust it; then the old
# one's end. Nothing here signs a server's certificate, and no key is ever shown.
path "pki-root/issuers/generate/root/internal" {
  capabilities = ["update"]
}
path "pki/issuers/generate/intermediate/internal" {
  capabilities = ["update"]
}
path "pki-root/issuer/+/sign-intermediate" {
  capabilities = ["update"]
}
path "pki/issuers/import/cert" {
  capabilities = ["update"]
}
path "pki/config/issuers" {
  capabilities = ["update"]
  allowed_parameters = {
    "default" = []
  }
}
path "pki/issuer/+" {
  capabilities = ["read", "delete"]
}
path "pki-root/issuer/+" {
  capabilities = ["read", "delete"]
}
path "pki/key/+" {
  capabilities = ["delete"]
}
path "pki-root/key/+" {
  capabilities = ["delete"]
}
