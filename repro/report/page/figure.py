"""A figure of the report: panels, what they show in words, and their data as CSV."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Panels with one caption.

    Attributes:
        name: Of its files, and of its place on the page: letters, digits, ``_`` and ``-``.
        title: One line.
        caption: What is drawn and how; plain text.
        panels: One SVG each; none where there is nothing to draw.
        data: CSV of what is drawn, or empty.
        missing: Sentences about what is not drawn.
        small: Whether many panels stand side by side.
    """

    name: str
    title: str
    caption: str = ""
    panels: tuple[str, ...] = ()
    data: str = ""
    missing: tuple[str, ...] = ()
    small: bool = False
