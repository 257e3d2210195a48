"""English prose for measurements: The Debian Administrator's Handbook (R. Hertzog, R. Mas; CC BY-SA 3.0 or
GPL 2+) from Debian's package debian-handbook, cut into texts that share no page.

usage: python3 text.py OUT_DIR       writes calib.txt, held_out.txt (to choose settings by) and test.txt"""
import html.parser, pathlib, subprocess, sys, tempfile


class Paragraphs(html.parser.HTMLParser):
    """The text of DocBook's paragraphs, <div class="para">, white space folded; screens and tables
    are no prose and end a paragraph."""

    def __init__(self):
        super().__init__()
        self.open, self.part, self.found = [], [], []

    def flush(self):
        text = " ".join("".join(self.part).split())
        self.part = []
        if len(text) > 80:
            self.found.append(text)

    def handle_starttag(self, tag, attrs):
        if tag in ("div", "pre", "table"):
            self.flush()
            self.open.append(tag == "div" and dict(attrs).get("class") == "para")

    def handle_endtag(self, tag):
        if tag in ("div", "pre", "table") and self.open:
            if self.open[-1]:
                self.flush()
            self.part = []
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1]:
            self.part.append(data)


def pages(folder):
    for page in sorted(folder.glob("*.html")):
        parser = Paragraphs()
        parser.feed(page.read_text(encoding="utf-8"))
        yield "\n\n".join(parser.found)


out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
with tempfile.TemporaryDirectory() as scratch:
    subprocess.run(["apt-get", "download", "-qq", "debian-handbook"], cwd=scratch, check=True, stderr=subprocess.DEVNULL)
    package = next(pathlib.Path(scratch).glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), scratch], check=True)
    folder = pathlib.Path(scratch) / "usr/share/doc/debian-handbook/html/en-US"
    texts = [text for text in pages(folder) if text]
parts = {"calib": [], "held_out": [], "test": []}
for i, text in enumerate(texts):
    parts[("calib", "test", "calib", "held_out")[i % 4]].append(text)
for name, part in parts.items():
    (out / f"{name}.txt").write_text("\n\n".join(part) + "\n", encoding="utf-8")
    print(f"{name}: {len(part)} pages, {sum(len(text.split()) for text in part)} words")
