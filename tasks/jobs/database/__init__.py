"""Jobs on registered databases."""
