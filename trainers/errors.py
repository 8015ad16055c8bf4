class InputError(ValueError):
    """What the user gave cannot be used. The message names the culprit, what was expected and what was got.

    Scripts print it as one line and exit with status 2; a traceback is kept for our own mistakes.
    """
