"""Jobs that look after other jobs."""
