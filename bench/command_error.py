"""What ends a command, also one of the study's."""


class CommandError(Exception):
    """A command that could not do its work: what was given, what was expected, what to do. Shown as one line.

    What a command shares with a run of pytest raises a subclass: a bad option, or a baseline that cannot be used.
    """
