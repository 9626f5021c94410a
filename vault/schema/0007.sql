-- What processors report (callbacks), what follows from it, and what merchants are told.

-- Where a processor posts: the id is in the URL, is random and names tenant and route. One that was
-- replaced goes on until `ends_at`; one that ended stays, so that its id is never given again.
CREATE TABLE callback_endpoint (
  id text PRIMARY KEY CHECK (id ~ '^cbe_[0-9a-hjkmnp-tv-z]{32}$'),
  tenant text NOT NULL REFERENCES tenant,
  route text NOT NULL,
  scheme text NOT NULL,
  created_at timestamptz NOT NULL,
  ends_at timestamptz
);
CREATE INDEX callback_endpoint_tenant ON callback_endpoint (tenant, created_at, id);

-- The inbox: one row an event, written with its ledger entry, whose id it has. The row stays, so
-- that no event counts twice; its body and headers are forgotten after a while. Scrubbed.
CREATE TABLE callback (
  id uuid PRIMARY KEY,
  tenant text NOT NULL,
  route text NOT NULL,
  scheme text NOT NULL,
  event_id text NOT NULL CHECK (length(event_id) BETWEEN 1 AND 255),
  event_type text NOT NULL,
  event_at timestamptz NOT NULL,
  effect text,
  action_reference text,    -- of what was done: a capture, a refund; else of the payment
  payment_reference text,   -- of the payment that it was done to
  merchant_reference text,
  amount bigint,
  currency text,
  decline_code text,
  signature text NOT NULL CHECK (signature IN ('valid', 'unsigned')),
  is_scrubbed boolean NOT NULL,
  headers text,             -- JSON: [[name, value], ...], those a merchant may see
  body bytea,
  first uuid,               -- the authorization that it speaks of, once that is known
  action uuid,              -- what was done to that, where it is on record: a capture, a refund
  idx bigint NOT NULL,
  received_at timestamptz NOT NULL,
  UNIQUE (tenant, route, event_id)
);
CREATE INDEX callback_list ON callback (tenant, received_at, id);
CREATE INDEX callback_first ON callback (first, event_at) WHERE first IS NOT NULL;
CREATE INDEX callback_action ON callback (action, event_at) WHERE action IS NOT NULL;
CREATE INDEX callback_unmatched ON callback (received_at) WHERE first IS NULL AND effect IS NOT NULL;
CREATE INDEX callback_body ON callback (received_at) WHERE body IS NOT NULL;

-- Posts whose signature does not fix their body (PayPal signs a checksum), by the id that it does
-- fix, and with which body each came first: none may come with another. The digest is a keyed one.
-- Kept for as long as such a post is taken.
CREATE TABLE callback_transmission (
  tenant text NOT NULL,
  route text NOT NULL,
  transmission text NOT NULL CHECK (length(transmission) BETWEEN 1 AND 128),
  digest bytea NOT NULL CHECK (length(digest) = 32),
  received_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, route, transmission)
);
CREATE INDEX callback_transmission_age ON callback_transmission (received_at);

-- Notices that prove nothing (an id alone, unsigned): what they speak of is to be asked. However
-- many come, one row a thing.
CREATE TABLE callback_notice (
  endpoint text NOT NULL REFERENCES callback_endpoint,
  tenant text NOT NULL,
  route text NOT NULL,
  reference text NOT NULL CHECK (length(reference) BETWEEN 1 AND 128),
  tries int NOT NULL DEFAULT 0,
  due timestamptz NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (endpoint, reference)
);
CREATE INDEX callback_notice_due ON callback_notice (endpoint, due);
CREATE INDEX callback_notice_tenant ON callback_notice (tenant);

-- When evidence that a callback brought came about, where that evidence is what the row shows:
-- only such a result may another callback replace, and only a later one.
ALTER TABLE authorizations ADD COLUMN evidence_at timestamptz;

-- Where a merchant hears of things. `form` is what he gets: the processor's own callbacks of one
-- route, or panward's events. Its breaker is here, so that replicas share it.
CREATE TABLE webhook_endpoint (
  id text PRIMARY KEY CHECK (id ~ '^we_[0-9a-hjkmnp-tv-z]{26}$'),
  tenant text NOT NULL REFERENCES tenant,
  url text NOT NULL,
  form text NOT NULL CHECK (form IN ('callbacks', 'events')),
  route text,
  types text[] NOT NULL DEFAULT '{}',   -- none: all
  signature text NOT NULL CHECK (signature IN ('original', 'own')),
  state text NOT NULL CHECK (state IN ('active', 'disabled', 'removed')),
  disabled_because text,
  concurrency int NOT NULL CHECK (concurrency BETWEEN 1 AND 32),
  failures int NOT NULL DEFAULT 0,
  paused_until timestamptz,
  since_idx bigint NOT NULL,            -- entries before it are not told
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  CHECK ((form = 'callbacks') = (route IS NOT NULL))
);
CREATE INDEX webhook_endpoint_tenant ON webhook_endpoint (tenant, created_at, id);

-- What panward itself tells, made of ledger entries, whose ids these are.
CREATE TABLE event (
  id uuid PRIMARY KEY,
  tenant text NOT NULL,
  type text NOT NULL,
  body bytea NOT NULL,
  idx bigint NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE INDEX event_age ON event (created_at);

-- The outbox. `subject` keeps order: the authorization's first intent, else the event's own id.
CREATE TABLE delivery (
  id uuid PRIMARY KEY,
  endpoint text NOT NULL REFERENCES webhook_endpoint,
  tenant text NOT NULL,
  event uuid REFERENCES event,
  callback uuid REFERENCES callback,
  subject uuid NOT NULL,
  idx bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('waiting', 'delivered', 'dead')),
  tries int NOT NULL DEFAULT 0,
  due timestamptz NOT NULL,
  last_status int,
  last_error text,
  created_at timestamptz NOT NULL,
  ended_at timestamptz,
  CHECK ((event IS NULL) <> (callback IS NULL))
);
CREATE UNIQUE INDEX delivery_event ON delivery (event, endpoint) WHERE event IS NOT NULL;
CREATE UNIQUE INDEX delivery_callback ON delivery (callback, endpoint) WHERE callback IS NOT NULL;
CREATE INDEX delivery_due ON delivery (endpoint, due, idx) WHERE state = 'waiting';
CREATE INDEX delivery_order ON delivery (endpoint, subject, idx) WHERE state = 'waiting';
CREATE INDEX delivery_list ON delivery (tenant, created_at, id);
CREATE INDEX delivery_ended ON delivery (ended_at) WHERE ended_at IS NOT NULL;

-- How far the log has been told: entries are appended in the order of their index, so one number
-- is all. Outbox rows are made in the transaction that moves it.
CREATE TABLE told (
  one int PRIMARY KEY CHECK (one = 1),
  next_idx bigint NOT NULL
);
INSERT INTO told (one, next_idx) SELECT 1, size FROM head;

GRANT SELECT, INSERT, UPDATE ON callback_endpoint, webhook_endpoint, callback TO {runtime};
GRANT SELECT, INSERT, UPDATE, DELETE ON callback_notice, callback_transmission, delivery, event
  TO {runtime};
GRANT SELECT, UPDATE ON told TO {runtime};
