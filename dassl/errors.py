"""The error that a user can mend. Quick to import."""

from dassl.printable import escaped


class UserError(Exception):
    """Bad input.

    The message is one sentence: the culprit (file or key) and the remedy; further lines are further
    arguments.

    Control characters of names in it are escaped: they could change the terminal, or forge lines of
    the log.
    """

    def __init__(self, message: str = "", *more: str):
        # A worker process of a DataLoader wraps the sentence into its traceback.
        message = (
            message.strip().splitlines()[-1].rpartition("UserError: ")[2]
            if "Traceback" in message
            else message
        )
        super().__init__("\n".join(map(escaped, (message, *more))))
