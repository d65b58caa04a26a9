"""Jobs on media libraries."""
