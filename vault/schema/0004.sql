-- What is done about outcomes that are not known: how often it was tried (`due` says when it is
-- tried again) and, where a route repeats a request by itself, that request.
ALTER TABLE intent_state ADD COLUMN tries int NOT NULL DEFAULT 0;

-- Whose account at which host a send was for, as a digest: elsewhere nobody is asked about it, and
-- it is not sent again.
ALTER TABLE intent_state ADD COLUMN account bytea;

-- As it came, tokens in place, sealed by transit; gone when its outcome is known, or when the
-- processor has forgotten its key.
CREATE TABLE kept_request (
  first uuid PRIMARY KEY,
  tenant text NOT NULL,
  ciphertext text NOT NULL,
  key_version int NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX kept_request_expiry ON kept_request (expires_at);

-- Rivals of a request in doubt: of any tenant, for two may have one account at a processor.
CREATE INDEX authorizations_reference ON authorizations (merchant_reference)
  WHERE merchant_reference IS NOT NULL;

GRANT SELECT, INSERT, DELETE ON kept_request TO {runtime};
