"""Presets: what each processor's API looks like, as data."""
