"""Commands that talk to a server over HTTP, from any machine."""
