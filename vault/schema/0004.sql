-- What is done about outcomes that are not known: how often it was tried (`due` says when it is
-- tried again) and, where a route repeats a request by itself, that request.
ALTER TABLE intent_state ADD COLUMN tries int NOT NULL DEFAULT 0;

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

GRANT SELECT, INSERT, DELETE ON kept_request TO {runtime};
