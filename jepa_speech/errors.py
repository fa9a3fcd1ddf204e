"""Errors that a user can mend. Each message is one line: what is wrong, and what to do."""


class UserError(Exception):
    """Something outside the code is wrong (a file, a store, a disk)."""

    exit_code = 1


class UsageError(UserError):
    """The command line or the config asks for something that cannot be."""

    exit_code = 2


class Interrupted(UserError):
    """The work was saved before it was done: run the same command again."""

    exit_code = 75
