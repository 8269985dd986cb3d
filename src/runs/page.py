"""The frame of every page that a run or a search leaves: one file of HTML that asks for nothing from elsewhere.

It follows the reader's choice of light or dark, and is as wide as the window: what is wider, a table or a matrix,
scrolls inside. Tables are sorted by a click on their head where scripts run, and are whole where they do not.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from src.files import write_text

COLOURS = 8  # of curves; more of them are told apart by their dashes
_STYLE = """
:root{color-scheme:light dark;--back:#fff;--card:#f6f7f9;--ink:#1c2024;--faint:#5b636c;--line:#d5d9de;--mark:11 92 173;
--c0:#0b5cad;--c1:#c2410c;--c2:#2b7a36;--c3:#8f34a8;--c4:#8a6d00;--c5:#0b7285;--c6:#b3205f;--c7:#565d66}
@media(prefers-color-scheme:dark){:root{--back:#14171a;--card:#1d2125;--ink:#e6e8ea;--faint:#a3abb3;--line:#383f46;
--mark:88 166 255;--c0:#6cb2ff;--c1:#ff9d5c;--c2:#6fd07c;--c3:#d59bf0;--c4:#e3c04a;--c5:#58cbdc;--c6:#ff85b3;
--c7:#b4bbc3}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem clamp(.75rem,2vw,2rem) 3rem;max-width:110rem;background:var(--back);color:var(--ink);
font:1rem/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1rem 0 .25rem}
p{margin:.5rem 0;max-width:75ch}.faint,figcaption,dt{color:var(--faint)}a{color:rgb(var(--mark))}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));align-items:start}
.grid>*{min-width:0}figure{margin:0;padding:.75rem;background:var(--card);border-radius:.5rem}
figure>img,figure>svg{display:block;width:100%;height:auto}figure>img{border-radius:.25rem}
.beside{display:flex;flex-wrap:wrap;gap:1.5rem}.beside>*{flex:1 1 30rem;min-width:min(100%,20rem)}
.beside>.scroll{flex:0 1 auto}.beside>.grid{align-content:start}
.thumbs{display:grid;gap:.5rem;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr))}
.thumbs figure{padding:.5rem}.thumbs figcaption{font-size:.8rem;margin-top:.25rem}
.thumbs img{aspect-ratio:1;object-fit:contain;image-rendering:pixelated}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.5rem 0}dd{margin:0;min-width:0}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem;width:fit-content;max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.3rem .7rem;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
td.long{white-space:normal;min-width:14rem}tr:last-child td{border-bottom:0}.number{text-align:right}
thead th{background:var(--card)}th button{all:unset;cursor:pointer}th button:focus-visible{outline:2px solid}
th[aria-sort=ascending] button::after{content:" ▲"}th[aria-sort=descending] button::after{content:" ▼"}
.key{display:inline-block;width:1.6em;height:.6em;margin-right:.5em;vertical-align:baseline}
svg text{fill:var(--ink);font-size:11px}svg .axis{stroke:var(--line);fill:none}svg .faint{fill:var(--faint)}
svg .curve{fill:none;stroke-width:1.8}
"""
# Numbers by their value, words by the alphabet, empty cells last; a second click turns the order round.
_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (one, two) => {
        const [a, b] = [value(one), value(two)];
        if (!a || !b) return !a - !b;
        const compared = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
        return down ? -compared : compared;
      };
      body.append(...[...body.rows].sort(order));
    };
  });
}
"""


class Cell:
    """What stands in a table: a text, and the number it is sorted by where it is one."""

    def __init__(self, text: object, value: float | None = None, *, is_markup: bool = False, is_long: bool = False):
        self.text = str(text) if is_markup else escaped(text)
        self.value, self.is_long = value, is_long

    def markup(self) -> str:
        kind = "number" if self.value is not None else "long" if self.is_long else ""
        attributes = (f' class="{kind}"' if kind else "") + (
            "" if self.value is None else f' data-value="{self.value!r}"'
        )
        return f"<td{attributes}>{self.text}</td>"


def escaped(text: object) -> str:
    """``text`` as it is to be read, in an element or an attribute; bytes of a path that are no UTF-8 as ``\\xff``."""
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode("utf-8"))


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell | object]], *, is_sortable: bool = True) -> str:
    """A table that scrolls inside where it is wider than the page. Cells that are no :class:`Cell` are words."""
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns)
    body = "".join(
        f"<tr>{''.join((cell if isinstance(cell, Cell) else Cell(cell)).markup() for cell in row)}</tr>\n"
        for row in rows
    )
    kind = ' class="sortable"' if is_sortable else ""
    whole = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>'


def facts(pairs: Mapping[str, object]) -> str:
    """Names and what each is."""
    return f"<dl>{''.join(f'<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>' for name, value in pairs.items())}</dl>"


def picture(source: str, what: str, caption: str = "") -> str:
    """A picture from ``source``, a file beside the page or :func:`embedded`; ``what`` says what it shows."""
    below = f"<figcaption>{escaped(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{escaped(source)}" alt="{escaped(what)}" loading="lazy">{below}</figure>'


def embedded(image: Image.Image) -> str:
    """The address of a picture that is its own content; large ones as JPEG."""
    file, kind = io.BytesIO(), "PNG" if image.width <= 64 else "JPEG"
    image.save(file, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Writes a page, whole or not at all, of ``parts`` that are markup already."""
    write_text(
        path,
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{escaped(title)}</h1>\n" + "\n".join(parts) + f"\n<script>{_SCRIPT}</script>\n</body></html>\n",
    )
