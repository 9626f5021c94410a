"""Files of cards: row by row through the filters of an inbound route."""
