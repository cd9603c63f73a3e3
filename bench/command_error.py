"""What ends a command, also one of the study's."""


class CommandError(Exception):
    """A command that could not do its work: what was given, what was expected, what to do. Shown as one line."""
