-- The head as it was before it was forged.
UPDATE head SET root = demo_head.root FROM demo_head WHERE head.size = demo_head.size;
DROP TABLE IF EXISTS demo_head;
