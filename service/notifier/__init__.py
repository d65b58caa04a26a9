"""Who hears of what, and by which channel."""
