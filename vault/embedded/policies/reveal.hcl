# The login of the way out, of the checkpoint publisher and of key rotation. The public
# application is built without it.
path "transit/decrypt/pan" {
  capabilities        = ["update"]
  required_parameters = ["batch_input"]
  allowed_parameters = {
    "batch_input"                   = []
    "partial_failure_response_code" = []
  }
}
path "transit/decrypt/cvc" {
  capabilities        = ["update"]
  required_parameters = ["batch_input"]
  allowed_parameters = {
    "batch_input"                   = []
    "partial_failure_response_code" = []
  }
}
path "transit/encrypt/reply" {
  capabilities        = ["update"]
  required_parameters = ["batch_input"]
  allowed_parameters = {
    "batch_input"                   = []
    "partial_failure_response_code" = []
  }
}
path "transit/decrypt/reply" {
  capabilities        = ["update"]
  required_parameters = ["batch_input"]
  allowed_parameters = {
    "batch_input"                   = []
    "partial_failure_response_code" = []
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
path "kv/data/processor/*" {
  capabilities = ["read"]
}

# What signs posts to merchants' endpoints: made here, when an endpoint is or its secret is rotated.
path "kv/data/webhook/*" {
  capabilities = ["create", "update", "read"]
}

# What was removed is in no older version either.
path "kv/destroy/webhook/*" {
  capabilities = ["update"]
}

# The CONNECT listener's certificates, three days each: the names and the key are the caller's,
# all else is the role's. What it issues with needs no line: the engine shows it to anybody.
path "pki/sign/gateway" {
  capabilities        = ["update"]
  required_parameters = ["csr"]
  allowed_parameters = {
    "csr"       = []
    "alt_names" = []
    "ip_sans"   = []
  }
}

# The checkpoint publisher.
path "transit/sign/ledger" {
  capabilities = ["update"]
  allowed_parameters = {
    "input"       = []
    "key_version" = []
    "prehashed"   = []
  }
}
path "kv/data/ledger/head" {
  capabilities = ["read", "create", "update"]
}

# Rotation. `pan` is rotated and rewrapped here; what ends its old versions is break-glass.
path "transit/rewrap/pan" {
  capabilities        = ["update"]
  required_parameters = ["batch_input"]
  allowed_parameters = {
    "batch_input" = []
  }
}
path "transit/keys/pan/rotate" {
  capabilities = ["update"]
}
path "transit/keys/cvc/rotate" {
  capabilities = ["update"]
}
path "transit/keys/reply/rotate" {
  capabilities = ["update"]
}
# `config` could make a key exportable too: the two minima only.
path "transit/keys/cvc/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "transit/keys/reply/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "transit/keys/cvc/trim" {
  capabilities = ["update"]
}
path "transit/keys/reply/trim" {
  capabilities = ["update"]
}

# Edge keys: made, signed, destroyed. Reading them is the other login's.
path "transit/sign/edge-sign" {
  capabilities = ["update"]
  allowed_parameters = {
    "input"       = []
    "key_version" = []
    "prehashed"   = []
  }
}
path "kv/data/edge/*" {
  capabilities = ["create", "update"]
}
path "kv/destroy/edge/*" {
  capabilities = ["update"]
}
path "kv/metadata/edge" {
  capabilities = ["list"]
}

# With it, the audit log would confirm a guessed value.
path "sys/audit-hash/*" {
  capabilities = ["deny"]
}
