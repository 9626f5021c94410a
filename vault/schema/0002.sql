-- Aliases of secret keys: the same key in the form that a processor's SDK insists on. Stored as a
-- SHA-256 alone, as the keys are; in force for as long as its key is.
CREATE TABLE key_alias (
  digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
  api_key text NOT NULL REFERENCES api_key,
  form text NOT NULL CHECK (form ~ '^[a-z_]{1,32}$'),
  created_at timestamptz NOT NULL
);
CREATE INDEX key_alias_key ON key_alias (api_key);

GRANT SELECT, INSERT, UPDATE (api_key, created_at) ON key_alias TO {runtime};
