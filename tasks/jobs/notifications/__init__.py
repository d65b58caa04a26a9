"""Jobs that tell people things, one type a channel."""
