"""The demo's shop as a shopper meets it: one page, and the few calls that it makes."""
