"""Texts with what a model says of them, in markdown."""

from collections.abc import Sequence

LONGEST = 240  # characters of a text


def plain(text: str) -> str:
    """A text that markdown and its tables take as it is."""
    return "".join(char if char.isalnum() or ord(char) > 127 else f"&#{ord(char)};" for char in text)


def answered(texts: Sequence[str], said: Sequence[str], sure: Sequence[float], true: Sequence[str]) -> str:
    """A line for each text: what the model says and how sure it is, in bold what would have been right, the text.

    Args:
        texts: long ones are cut.
        said, true: names of classes.
        sure: the probability of what is said.
    """
    lines = []
    for text, answer, chance, label in zip(texts, said, sure, true, strict=True):
        words = " ".join(text.split())
        words = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
        right = "" if answer == label else f", **is {plain(label)}**"
        lines.append(f"* {plain(answer)} {chance:.2f}{right}: {plain(words)}")
    return "\n".join(lines)
