# The login of the way in: turns numbers into ciphertexts and fingerprints, and opens neither.
# Batches only: a single item's parameters would bypass the rules about contexts.
path "transit/encrypt/pan" {
  capabilities        = ["update"]
  required_parameters = ["batch_input"]
  allowed_parameters = {
    "batch_input"                   = []
    "partial_failure_response_code" = []
  }
}
path "transit/encrypt/cvc" {
  capabilities        = ["update"]
  required_parameters = ["batch_input"]
  allowed_parameters = {
    "batch_input"                   = []
    "partial_failure_response_code" = []
  }
}

# The version is pinned in each call: a rotation would change every fingerprint.
path "transit/hmac/fingerprint/sha2-256" {
  capabilities        = ["update"]
  required_parameters = ["batch_input", "key_version"]
  allowed_parameters = {
    "batch_input" = []
    "key_version" = []
  }
}
path "transit/hmac/digest/sha2-256" {
  capabilities        = ["update"]
  required_parameters = ["batch_input", "key_version"]
  allowed_parameters = {
    "batch_input" = []
    "key_version" = []
  }
}

# What opens fields sealed in a browser, and what proves a processor's callback.
path "kv/data/edge/*" {
  capabilities = ["read"]
}
path "kv/metadata/edge" {
  capabilities = ["list"]
}
path "kv/data/callback/*" {
  capabilities = ["read"]
}

# With it, the audit log would confirm a guessed value.
path "sys/audit-hash/*" {
  capabilities = ["deny"]
}
