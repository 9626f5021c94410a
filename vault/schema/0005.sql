-- Which pages may use a publishable key: web origins, and apps as `app:<name>`.
ALTER TABLE api_key ADD COLUMN origins text[] NOT NULL DEFAULT '{}';

-- The network that a card came from with a publishable key, for a day: who tries out cards is seen
-- by their declines.
ALTER TABLE token ADD COLUMN made_from text;
CREATE INDEX token_made_from ON token (created_at) WHERE made_from IS NOT NULL;

-- Sealed cards that were used: none is used twice. Gone when its own expiry refuses it.
CREATE TABLE sealed_nonce (
  tenant text NOT NULL,
  nonce bytea NOT NULL CHECK (octet_length(nonce) = 16),
  ends timestamptz NOT NULL,
  PRIMARY KEY (tenant, nonce)
);
CREATE INDEX sealed_nonce_ends ON sealed_nonce (ends);

GRANT SELECT, INSERT, DELETE ON sealed_nonce TO {runtime};
