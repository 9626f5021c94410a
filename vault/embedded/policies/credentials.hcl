# The login of `panward credentials` and `panward callbacks secrets`: puts processor and callback
# secrets in, reads none back.
path "kv/data/processor/*" {
  capabilities = ["create", "update"]
}
# A part of a callback's secrets at a time: one that is rotated has a successor beside it.
path "kv/data/callback/*" {
  capabilities = ["create", "update", "patch"]
}
path "kv/metadata/processor/*" {
  capabilities = ["read", "list"]
}
path "kv/metadata/callback/*" {
  capabilities = ["read", "list"]
}
# What was removed or replaced is in no older version either.
path "kv/destroy/callback/*" {
  capabilities = ["update"]
}
# The names of secrets: the engine answers with null in place of each value.
path "kv/subkeys/callback/*" {
  capabilities = ["read"]
}

# With it, the audit log would confirm a guessed value.
path "sys/audit-hash/*" {
  capabilities = ["deny"]
}
