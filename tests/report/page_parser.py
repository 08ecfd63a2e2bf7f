"""The report's page as a test reads it: elements closed, ids, references, texts by id."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br"}


@dataclass
class Element:
    """A tag, its attributes, and all text inside it."""

    tag: str
    attributes: dict[str, str]
    inside: tuple[str, ...]  # ids around it
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Collects elements; raises AssertionError where one is not closed in its turn."""

    source: str
    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the page."""
        super().__init__()
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        around = tuple(e.attributes["id"] for e in self.open if "id" in e.attributes)
        element = Element(tag, {name: value or "" for name, value in attrs}, around)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def by_id(self, name: str) -> Element:
        (found,) = (e for e in self.elements if e.attributes.get("id") == name)
        return found

    def within(self, name: str, tag: str) -> list[Element]:
        """Elements of a kind inside the one with that id."""
        return [e for e in self.elements if e.tag == tag and name in e.inside]

    def ids(self) -> list[str]:
        return [e.attributes["id"] for e in self.elements if "id" in e.attributes]
