"""The edge in front of a merchant's own endpoints: a card comes in, a token goes on."""
