# The login of `panward credentials`: puts processor and callback secrets in, reads none back.
path "kv/data/processor/*" {
  capabilities = ["create", "update"]
}
path "kv/data/callback/*" {
  capabilities = ["create", "update"]
}
path "kv/metadata/processor/*" {
  capabilities = ["read", "list"]
}
path "kv/metadata/callback/*" {
  capabilities = ["read", "list"]
}

# With it, the audit log would confirm a guessed value.
path "sys/audit-hash/*" {
  capabilities = ["deny"]
}
