"""A figure of matplotlib as SVG inside a page: no identifiers that clash, colours by variables, titles to point at."""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from workers.report.inks import by_variables

__all__ = ["STYLE", "Mark", "embed"]

STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "onward", "svg.fonttype": "none", "font.size": 11, "axes.labelsize": 11, "xtick.labelsize": 11,
    "ytick.labelsize": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "figure.dpi": 72, "savefig.dpi": 72, "axes.formatter.useoffset": False, "axes.unicode_minus": False,
    "text.parse_math": False,
}  # fmt: skip
"""At 72 dots per inch a unit of the SVG is a pixel of CSS, and a point of a font is one, too."""

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_KEPT = ("viewBox", "version")

ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


@dataclass(frozen=True)
class Mark:
    """What a part of a drawing is known by in the page."""

    css: str
    """Its class."""
    title: str
    """Shown while the pointer is over it."""


def embed(figure: Any, marks: Mapping[str, Mark], label: str, *, stretches: bool = False) -> str:
    """The figure as ``<svg>``.

    Args:
        figure: of matplotlib, made under :data:`STYLE`.
        marks: of the parts of the drawing, by the ``gid`` that each has.
        label: what is drawn, for who does not see it; no two drawings of a page have the same.
        stretches: it may be drawn at any width and height; for drawings without text.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(_shorter(buffer.getvalue()))
    for name in [name for name in root.attrib if name not in _KEPT]:
        del root.attrib[name]
    for unwanted in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
        for parent in list(root.iter()):
            for child in [child for child in parent if child.tag == unwanted]:
                parent.remove(child)
    _mark(root, marks)
    _rename(root, f"f{hashlib.sha256(label.encode()).hexdigest()[:10]}-")
    root.set("class", "strip" if stretches else "plot")
    root.set("role", "img")
    root.set("aria-label", label)
    if stretches:
        root.set("preserveAspectRatio", "none")
    return by_variables(ElementTree.tostring(root, encoding="unicode"))


def _shorter(svg: str) -> str:
    """Without fonts, which are the page's, and without turns by nothing."""
    return re.sub(r" font-family: [^;\"]*;| transform=\"rotate\(-?0 [^)]*\)\"", "", svg)


def _mark(root: ElementTree.Element, marks: Mapping[str, Mark]) -> None:
    """Gives marked parts their classes and titles."""
    for part in root.iter():
        mark = marks.get(part.get("id", ""))
        if mark is not None:
            part.set("class", mark.css)
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = mark.title
            part.insert(0, title)


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Identifiers are those of the page: keeps what is referred to, under names of this drawing's own."""
    used: set[str] = set()
    for part in root.iter():
        for name, value in part.attrib.items():
            found = re.findall(r"url\(#([^)]+)\)", value)
            used.update([*found, *([value[1:]] if name == f"{{{_XLINK}}}href" and value.startswith("#") else [])])
    for part in root.iter():
        for name, value in list(part.attrib.items()):
            if name == "id":
                del part.attrib["id"]
                if value in used:
                    part.set("id", prefix + value)
            elif name == f"{{{_XLINK}}}href" and value.startswith("#"):
                part.set(name, f"#{prefix}{value[1:]}")
            else:
                part.set(name, re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", value))
