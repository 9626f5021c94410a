"""Hosted card fields: what browsers get from the gateway, and how that is kept unchanged."""
