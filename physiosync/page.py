"""HTML: one page without scripts, its tables, figures and lists. All text is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd


def facts(header: Mapping[str, str]) -> str:
    """A list of names and what they stand for."""
    items = (f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in header.items())
    return f"<dl>{''.join(items)}</dl>"


def figure(svg: str, caption: str) -> str:
    """A picture with its caption; the SVG is taken as it is."""
    return (
        f'<figure><div role="img" aria-label="{escape(caption)}">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def html_table(table: pd.DataFrame, *, caption: str) -> str:
    """All rows of a table, as text."""
    head = "".join(f'<th scope="col">{escape(str(c))}</th>' for c in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bullets(sentences: Sequence[str]) -> str:
    """A list, an item a sentence."""
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"


def page(title: str, sections: Sequence[str]) -> str:
    """The whole file."""
    return _PAGE.format(title=escape(title), body="\n".join(sections))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PhysioSync: {title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }}
h1, h2 {{ line-height: 1.2; }} h2 {{ margin-top: 2.5rem; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }}
dt {{ color: #555; }} dd {{ margin: 0; overflow-wrap: anywhere; }}
.loud {{ background: #fff3c4; border-left: 6px solid #b58900; padding: .6rem 1rem;
  font-weight: 600; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
caption {{ text-align: left; color: #555; padding-bottom: .4rem; }}
th, td {{ text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid #ddd; }}
figure {{ margin: 1.5rem 0; }} figure svg {{ max-width: 100%; height: auto; }}
figcaption {{ color: #555; font-size: .9rem; }}
</style></head><body>
{body}
</body></html>
"""
