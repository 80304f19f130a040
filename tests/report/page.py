"""Reading a rendered page as a browser would: elements, and the text of every section."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Parses a page.

    `elements` holds (tag, attributes) of every element, `scripts` and `styles` their contents, `codes` the text of
    `<code>` elements; `text(section)` what a reader of that section sees.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.styles, self.codes = [], [], [], []
        self.texts, self.section, self.inside = {None: []}, None, None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self.inside = tag
        if tag == "section":
            self.section = attributes["id"]
            self.texts[self.section] = []

    def handle_endtag(self, tag):
        self.inside = None
        if tag == "section":
            self.section = None

    def handle_data(self, data):
        kept = {"script": self.scripts, "style": self.styles}.get(self.inside)
        if kept is not None:
            kept.append(data)
            return
        if self.inside == "code":
            self.codes.append(data)
        self.texts[self.section].append(data)

    def text(self, section=None):
        return re.sub(r"[ \n]+", " ", "".join(self.texts[section])).strip()

    def images(self):
        return [attributes["src"] for tag, attributes in self.elements if tag == "img"]
