"""A page as a browser reads it, and words that would harm one that is careless."""

from html.parser import HTMLParser

VOID = {"meta", "input", "wbr", "br", "img"}
HOSTILE = '<script>alert("x")</script>&amp;<img src=x onerror=alert(1)>$title|*'


class Page(HTMLParser):
    """Every element closed in its order, every id once; texts of cells and what is referred to."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data

    def elements(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]
