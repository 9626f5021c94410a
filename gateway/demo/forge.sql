-- What somebody with the database owner's password could do to the record while it is in use:
-- the head's root becomes another one, as if other entries stood before it.
CREATE TABLE demo_head AS TABLE head;
UPDATE head SET root = sha256('another history');
