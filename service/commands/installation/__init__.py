"""Commands that an installation needs on its own machine, with its settings and its database."""
