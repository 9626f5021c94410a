"""A simulated card processor, for the demo and the tests."""
