"""What Sphinx is told: see build.py."""

import inspect
import logging
import re
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy.typing as npt
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util.typing import stringify_annotation

sys.path.insert(0, str(Path(__file__).parent))
from pages import CODE, ROOT, SETTINGS, SITE, house

project = SETTINGS["title"]
author = SETTINGS["author"]
copyright = SETTINGS["copyright"]
release = SETTINGS["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "sphinxext.opengraph"]

# Notebooks, as they are stored
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # nothing from another host
nb_code_prompt_show = nb_code_prompt_hide = "Imports"  # the cells that pages.only_imports folds
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables and links in outputs, too
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4

# API
default_role = "code"  # docstrings are written for Markdown
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
ARRAY_LIKE = stringify_annotation(npt.ArrayLike, "smart")
IN_A_UNION = ARRAY_LIKE.replace(" | str | ~", " | ~")  # with str, which then stands before it
python_maximum_signature_line_length = 80
add_module_names = False
python_use_unqualified_type_names = True

# Sharing
ogp_site_url = SITE
MARK = str(Path(__file__).parent / "static" / "mark.png")
ogp_social_cards = {"image": MARK, "image_mini": MARK, "line_color": "#149a92"}
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # the cards' font has one weight

# Looks
html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_logo = html_favicon = "static/mark.svg"
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_math_renderer = "mathml"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
ACCENT = dict(light="#0b7a75", dark="#5ec9c0")
html_theme_options = {
    f"{theme}_css_variables": {
        "color-brand-primary": colour,
        "color-brand-content": colour,
        "color-brand-visited": colour,
    }
    for theme, colour in ACCENT.items()
}


def linkcode_resolve(domain: str, info: dict) -> str | None:
    "The line of the repository at which a name is defined."
    found = import_module(info["module"])
    for name in info["fullname"].split("."):
        found = getattr(found, name, None)
    try:
        found = inspect.unwrap(found)
        path = Path(inspect.getsourcefile(found)).relative_to(ROOT)
        return f"{CODE}{path}#L{inspect.getsourcelines(found)[1]}"
    except (TypeError, ValueError, OSError):  # a constant
        return None


def plain(app, what, name, thing, options, lines: list[str]) -> None:
    "Of a docstring: outside of code, a bar or a star is one, and no markup."
    for at, line in enumerate(lines):
        pieces = line.split("`")
        pieces[::2] = [re.sub(r"([|*])", r"\\\1", text) for text in pieces[::2]]
        lines[at] = "`".join(pieces)


def short(app, what, name, thing, options, signature: str | None, returns: str | None):
    "`ArrayLike` by its name; Sphinx writes out what it stands for."
    for long in (ARRAY_LIKE, IN_A_UNION):
        signature, returns = (text and text.replace(long, "ArrayLike") for text in (signature, returns))
    return signature, returns


def mathml(translator, node, display: str) -> None:
    "A formula as MathML, which browsers draw without a program or a font from elsewhere."
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def way(app, page: str, template: str, context: dict, doctree) -> None:
    "Previous and next are those of the house: the trunk leads along the trunk, a branch along its branch."
    name = page.removeprefix("nbs/")
    if name not in house.trunk() + house.branches():
        return
    builder = app.builder
    for key, goal in zip(("prev", "next"), house.neighbours(name)):
        goal = goal and ("index" if goal == "index" else f"nbs/{goal}")
        title = goal and builder.render_partial(app.env.titles[goal])["title"]
        context[key] = goal and dict(link=builder.get_relative_uri(page, goal), title=title)


def setup(app) -> None:
    inline, block = (partial(mathml, display=display) for display in ("inline", "block"))
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("autodoc-process-docstring", plain)
    app.connect("autodoc-process-signature", short)
    app.connect("html-page-context", way)
