"""A password that does not show itself in logs, tracebacks and test failures."""


class Secret:
    """Text that only `reveal` gives out. Two secrets never compare equal: compare digests instead."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"
