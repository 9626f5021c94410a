-- What somebody with the database owner's password could do to the record, done to a copy of it.
-- One byte: the 4 of the decline's "status":402 becomes a 2, which leaves valid canonical JSON.
BEGIN ISOLATION LEVEL REPEATABLE READ;  -- the record goes on while it is copied
DROP SCHEMA IF EXISTS demo_copy CASCADE;
CREATE SCHEMA demo_copy;
CREATE TABLE demo_copy.entry AS TABLE public.entry;
CREATE TABLE demo_copy.head AS TABLE public.head;
CREATE TABLE demo_copy.checkpoint AS TABLE public.checkpoint;
CREATE TABLE demo_copy.cosignature AS TABLE public.cosignature;
CREATE TABLE demo_copy.node AS TABLE public.node;
CREATE TABLE demo_copy.detail AS TABLE public.detail;
UPDATE demo_copy.entry
  SET body = set_byte(body, position('"status":402'::bytea IN body) + 8, ascii('2'))
  WHERE idx = (SELECT max(idx) FROM demo_copy.entry WHERE position('"status":402'::bytea IN body) > 0)
  RETURNING idx;
COMMIT;
