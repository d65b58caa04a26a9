"""Files that jobs leave for their owners."""
