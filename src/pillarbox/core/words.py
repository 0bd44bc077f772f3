"""Words for people."""


def counted(number: int, noun: str) -> str:
    """Example: (2, "message") -> "2 messages"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
