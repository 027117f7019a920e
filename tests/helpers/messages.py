"""What an error's message has to say, whatever its wording: the key, what was there, the remedy."""


def assert_says(message: object, *parts: str) -> None:
    """Each part is in the one line of the message, in this order."""
    text, at = str(message), 0
    assert "\n" not in text, text
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{part!r} is not said, or not in its place: {text}"
        at = found + len(part)
