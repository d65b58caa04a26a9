"""Media libraries."""
