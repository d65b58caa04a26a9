"""Job types, one a file."""
