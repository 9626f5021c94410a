-- The first schema. `{runtime}` is the runtime role: it can add ledger entries and neither
-- change nor delete one, and it is neither owner nor superuser.

-- One row that says what this database is, so that a gateway of another environment, or one
-- that is pointed at another Vault, refuses to start.
CREATE TABLE deployment (
  one int PRIMARY KEY CHECK (one = 1),
  env text NOT NULL CHECK (env IN ('test', 'live')),
  origin text NOT NULL,
  fingerprint_version int NOT NULL CHECK (fingerprint_version > 0),
  digest_version int NOT NULL CHECK (digest_version > 0),
  fingerprint_check bytea NOT NULL CHECK (octet_length(fingerprint_check) = 32),
  created_at timestamptz NOT NULL
);

CREATE TABLE tenant (
  id text PRIMARY KEY CHECK (id ~ '^t_[0-9a-z]{2,26}$'),
  name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9_.-]{1,64}$'),
  created_at timestamptz NOT NULL
);

CREATE TABLE api_key (
  id text PRIMARY KEY,
  tenant text NOT NULL REFERENCES tenant,
  kind text NOT NULL CHECK (kind IN ('publishable_key', 'secret_key')),
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  scopes text[] NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX api_key_tenant ON api_key (tenant, created_at);

-- The random id that callers may see, and the keyed hash that never leaves this database
-- (PCI DSS 3.5.1.1). Erased with the card's last token.
CREATE TABLE fingerprint (
  id text PRIMARY KEY,
  tenant text NOT NULL,
  version int NOT NULL,
  value bytea NOT NULL CHECK (octet_length(value) = 32),
  UNIQUE (tenant, version, value)
);

CREATE TABLE token (
  id text PRIMARY KEY,
  tenant text NOT NULL,
  pan_like text,
  format text NOT NULL CHECK (format IN ('opaque', 'pan_like')),
  brand text NOT NULL,
  pan_length int NOT NULL CHECK (pan_length BETWEEN 12 AND 19),
  last4 text NOT NULL CHECK (last4 ~ '^[0-9]{4}$'),
  bin text CHECK (bin ~ '^[0-9]{6}$'),
  exp_month int NOT NULL CHECK (exp_month BETWEEN 1 AND 12),
  exp_year int NOT NULL CHECK (exp_year BETWEEN 2000 AND 2099),
  ciphertext text NOT NULL,
  key_version int NOT NULL,
  fingerprint text NOT NULL,
  reusable boolean NOT NULL,
  single_use boolean NOT NULL,
  held_by uuid, -- a single-use token: the authorization that has it
  expires_at timestamptz,
  customer_reference text CHECK (customer_reference ~ '^[A-Za-z0-9_-]{1,64}$'),
  created_at timestamptz NOT NULL,
  UNIQUE (tenant, pan_like)
);
CREATE UNIQUE INDEX token_reuse ON token (tenant, fingerprint, format) WHERE reusable;
CREATE INDEX token_customer ON token (tenant, customer_reference, created_at, id)
  WHERE customer_reference IS NOT NULL;
CREATE INDEX token_created ON token (tenant, created_at, id);
CREATE INDEX token_expiry ON token (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX token_fingerprint ON token (fingerprint);
CREATE INDEX token_key_version ON token (key_version);

-- Sensitive authentication data before authorization (PCI DSS 3.3.1, 3.3.2). UNLOGGED: in no
-- WAL, replica or base backup, and empty after a crash, which is right. Plain pg_dump does
-- contain it: dump with --no-unlogged-table-data.
CREATE UNLOGGED TABLE cvc (
  token text PRIMARY KEY,
  tenant text NOT NULL,
  ciphertext text NOT NULL,
  key_version int NOT NULL,
  expires_at timestamptz NOT NULL,
  claimed_by uuid
);
CREATE INDEX cvc_expiry ON cvc (expires_at);
CREATE INDEX cvc_claim ON cvc (claimed_by) WHERE claimed_by IS NOT NULL;

-- Idempotency. A claim without an intent may expire; one with an intent never does.
CREATE TABLE claim (
  tenant text NOT NULL,
  route text NOT NULL,
  key_digest bytea NOT NULL CHECK (octet_length(key_digest) = 32),
  body_digest bytea NOT NULL CHECK (octet_length(body_digest) = 32),
  nonce uuid NOT NULL,
  lease_until timestamptz NOT NULL,
  first uuid,  -- intent of the first attempt
  intent uuid, -- intent of the latest attempt
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, route, key_digest)
);
CREATE INDEX claim_age ON claim (created_at);

-- The ledger. `idx` is head.size at insert, never a sequence: a sequence hands out numbers
-- before commit, so readers skip rows and rollbacks leave holes.
CREATE TABLE entry (
  idx bigint PRIMARY KEY CHECK (idx >= 0),
  id uuid NOT NULL UNIQUE,
  type text NOT NULL,
  intent uuid,
  leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
  body bytea NOT NULL CHECK (octet_length(body) BETWEEN 2 AND 16384)
);
CREATE INDEX entry_intent ON entry (intent) WHERE intent IS NOT NULL;

CREATE TABLE head ( -- one hot row
  one int PRIMARY KEY CHECK (one = 1),
  size bigint NOT NULL CHECK (size >= 0),
  root bytea NOT NULL CHECK (octet_length(root) = 32),
  peaks bytea NOT NULL CHECK (octet_length(peaks) % 32 = 0),
  touched timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO head (one, size, root, peaks) VALUES (1, 0, sha256(''), '');

CREATE FUNCTION immutable() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'append-only: % on %', TG_OP, TG_TABLE_NAME; END $$;
CREATE TRIGGER no_rewrite BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
  FOR EACH STATEMENT EXECUTE FUNCTION immutable();
CREATE TRIGGER no_drop BEFORE DELETE OR TRUNCATE ON head
  FOR EACH STATEMENT EXECUTE FUNCTION immutable();

-- What an entry commits to and a person may have erased.
CREATE TABLE detail (
  id uuid PRIMARY KEY,
  salt bytea NOT NULL CHECK (octet_length(salt) = 32),
  body bytea NOT NULL
);

-- The last entry of each replica, so that its next start can name it.
CREATE TABLE replica (
  id text PRIMARY KEY,
  boot uuid NOT NULL,
  n bigint NOT NULL
);

-- One row a send; rebuildable from the entries.
CREATE TABLE intent_state (
  intent uuid PRIMARY KEY,
  first uuid NOT NULL,
  attempt int NOT NULL,
  tenant text NOT NULL,
  route text NOT NULL,
  tokens text[] NOT NULL,
  opens_cvc boolean NOT NULL,
  state text NOT NULL CHECK (state IN ('attempted', 'completed', 'not_sent', 'unknown', 'resolved')),
  result text,
  finding text,
  status int,
  phase text,
  reason text,
  opened_idx bigint NOT NULL,
  last_idx bigint NOT NULL,
  replica text NOT NULL,
  boot uuid NOT NULL,
  due timestamptz NOT NULL,
  opened_at timestamptz NOT NULL,
  ended_at timestamptz
);
CREATE INDEX intent_first ON intent_state (first, attempt);
CREATE INDEX intent_due ON intent_state (due) WHERE state IN ('attempted', 'unknown');
CREATE INDEX intent_boot ON intent_state (boot) WHERE state = 'attempted';
CREATE INDEX intent_tokens ON intent_state USING gin (tokens) WHERE state = 'attempted';

-- What the API shows of an authorization: one row for all its attempts. (`authorization` alone
-- is a reserved word.)
CREATE TABLE authorizations (
  first uuid PRIMARY KEY,
  tenant text NOT NULL,
  route text NOT NULL,
  operation text NOT NULL,
  kind text NOT NULL,
  tokens text[] NOT NULL,
  state text NOT NULL,
  result text,
  amount bigint,
  currency text,
  merchant_reference text,
  processor_reference text,
  decline_code text,
  authorization_code text,
  key_digest bytea,
  idx bigint NOT NULL,
  leaf bytea NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
);
CREATE INDEX authorizations_tenant ON authorizations (tenant, created_at, first);
CREATE INDEX authorizations_tokens ON authorizations USING gin (tokens);
CREATE INDEX authorizations_key ON authorizations (tenant, key_digest) WHERE key_digest IS NOT NULL;
CREATE INDEX authorizations_processor ON authorizations (tenant, processor_reference)
  WHERE processor_reference IS NOT NULL;
CREATE INDEX authorizations_merchant ON authorizations (tenant, merchant_reference)
  WHERE merchant_reference IS NOT NULL;

-- Stored answers, sealed by transit; seven days.
CREATE TABLE answer (
  intent uuid PRIMARY KEY,
  tenant text NOT NULL,
  ciphertext text NOT NULL,
  key_version int NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX answer_expiry ON answer (expires_at);

GRANT SELECT, INSERT ON deployment TO {runtime};
GRANT SELECT, INSERT ON tenant TO {runtime};
GRANT SELECT, INSERT, UPDATE ON api_key TO {runtime};
GRANT SELECT, INSERT, UPDATE, DELETE ON fingerprint, token, cvc, claim, detail, replica,
  intent_state, authorizations, answer TO {runtime};
GRANT SELECT, INSERT ON entry TO {runtime};
GRANT SELECT, UPDATE ON head TO {runtime};
