"""Settings of Sphinx, which makes the book: see the target ``docs`` of the Makefile.

The sources begin at the root of the repository, so that links are the same in a browser of the
repository and in the book. Manual pages are converted while it is made.
"""

from __future__ import annotations

import re
from pathlib import Path

import pypandoc
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
MANUALS = ROOT / "docs/man"
CONVERTED = ROOT / "docs/reference/man"

project = "ipsecd"
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/*.md", "docs/**/*.md"]
exclude_patterns = ["docs/changelog.d/**"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "ipsecd"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
templates_path: list[str] = []
# Nothing is loaded from elsewhere, and these pages are for people who read, not for search engines.
html_theme_options = {"navigation_with_keys": True}


def convert_manuals(_: Sphinx) -> None:
    """Write every manual page in the form of the other pages."""
    CONVERTED.mkdir(exist_ok=True)
    for manual in sorted(MANUALS.iterdir()):
        title = f"{manual.stem}({manual.suffix[1:]})"
        text = pypandoc.convert_file(str(manual), "gfm-raw_html", format="man")
        # The sections of a manual page are below its title.
        lowered = re.sub(r"^#", "##", text, flags=re.MULTILINE)
        page = CONVERTED / f"{manual.name}.md"
        content = f"# {title}\n\n{lowered}"
        if not page.exists() or page.read_text(encoding="utf-8") != content:
            page.write_text(content, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Have manual pages converted before the sources are looked for."""
    app.connect("config-inited", lambda app, _: convert_manuals(app))
