# Every login: look at itself, renew, end, and see at start whether keys and rights are right.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
path "transit/keys/+" {
  capabilities = ["read"]
}

# No login ever takes a key out, puts one in or away. On one path deny wins over all else.
path "transit/export/*" {
  capabilities = ["deny"]
}
path "transit/backup/*" {
  capabilities = ["deny"]
}
path "transit/byok-export/*" {
  capabilities = ["deny"]
}
path "transit/restore/*" {
  capabilities = ["deny"]
}
path "transit/keys/+/soft-delete" {
  capabilities = ["deny"]
}
