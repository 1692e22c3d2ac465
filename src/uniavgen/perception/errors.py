"""What a network raises when it has nothing to say about an input."""


class NotMeasured(Exception):  # noqa: N818 - an outcome with a reason, not a failure of the program
    """This input cannot be measured; the text says why and becomes a row of a report, or a filter's reason."""
