"""REST handlers, a file a resource."""
