-- The log as it is published: signed heads, what witnesses say of them, and what tiles are read
-- from. All of it can be made again from the entries and the signing key.

-- Whose an entry is, as its body says: for the tenant's own view. Derived; the scrub compares it.
ALTER TABLE entry ADD COLUMN tenant text;
ALTER TABLE entry DISABLE TRIGGER no_rewrite;
UPDATE entry SET tenant = substring(convert_from(body, 'UTF8') FROM '"tenant":"(t_[0-9a-z]{2,26})"');
ALTER TABLE entry ENABLE TRIGGER no_rewrite;
CREATE INDEX entry_tenant ON entry (tenant, idx) WHERE tenant IS NOT NULL;

-- Entries that are few and looked up: announced keys, and the words that end a seal.
CREATE INDEX entry_few ON entry (type, idx) WHERE type IN ('key.rotated', 'ledger.unsealed');

CREATE TABLE checkpoint (
  size bigint PRIMARY KEY CHECK (size >= 0),
  root bytea NOT NULL CHECK (octet_length(root) = 32),
  note text NOT NULL,
  created timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER no_rewrite BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoint
  FOR EACH STATEMENT EXECUTE FUNCTION immutable();

-- The latest line of each witness about a checkpoint.
CREATE TABLE cosignature (
  size bigint NOT NULL REFERENCES checkpoint,
  witness text NOT NULL,
  line text NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (size, witness)
);
CREATE INDEX cosignature_latest ON cosignature (witness, at);

-- Entries of tiles of level 1 and above: roots of full subtrees of 256, 65,536 and so on leaves.
CREATE TABLE node (
  level int NOT NULL CHECK (level BETWEEN 1 AND 7),
  idx bigint NOT NULL CHECK (idx >= 0),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (level, idx)
);

-- When the latest checkpoint was last signed: the same head again, while nothing is appended.
CREATE TABLE publication (
  one int PRIMARY KEY CHECK (one = 1),
  size bigint NOT NULL,
  at timestamptz NOT NULL
);

-- Why no card is disclosed, for every replica to see.
CREATE TABLE seal (
  cause text PRIMARY KEY,
  at timestamptz NOT NULL
);

-- Who may read the whole log on the ops listener. Nobody's but the deployment's.
CREATE TABLE auditor_key (
  id text PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9_.-]{1,64}$'),
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz
);

GRANT SELECT, INSERT ON checkpoint, node TO {runtime};
GRANT SELECT, INSERT, UPDATE ON cosignature, publication, auditor_key TO {runtime};
GRANT SELECT, INSERT, DELETE ON seal TO {runtime};
