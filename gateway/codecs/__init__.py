"""Find and replace at selectors: pure, bytes to bytes, splicing."""
