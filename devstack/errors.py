"""What can go wrong with the local stack; every message is one sentence for the person who started it."""


class StackError(Exception):
    """The local stack cannot go on."""


class StopRequested(Exception):
    """Ctrl-C or SIGTERM came while the stack was starting."""
