-- A card may be known by its number alone, without an expiry date: found in a partner's feed or
-- in a file. Both columns or neither; a later change brings the date.

-- Nothing is rewritten or scanned, so the exclusive lock is held for a moment. To get it, though,
-- it would wait behind a long reader, and all others behind it: rather give up, and start again.
SET LOCAL lock_timeout = '2s';

-- NOT VALID: every row of before has both, as NOT NULL saw to; new ones are checked as ever.
ALTER TABLE token
  ALTER COLUMN exp_month DROP NOT NULL,
  ALTER COLUMN exp_year DROP NOT NULL,
  ADD CONSTRAINT token_expiry_whole CHECK ((exp_month IS NULL) = (exp_year IS NULL)) NOT VALID;
