"""Pages of runs, studies and problems, from one template."""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import functools
from importlib import resources
import json
import pathlib
from typing import Any

import jinja2
import markupsafe
from matplotlib import figure as mpl_figure

from mtl_jax.reporting import plots, result_tables, whole_files

TEMPLATE = 'page.html.jinja'


@dataclasses.dataclass(frozen=True)
class Folded:
  """Parts that open on a click."""

  title: str
  parts: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Image:
  """A PNG file that is put into the page, for pictures of many points."""

  path: pathlib.Path

  @property
  def name(self) -> str:
    """Alternative text of the picture."""
    return self.path.stem

  @property
  def base64(self) -> str:
    """The content, as a data address has it."""
    return base64.b64encode(self.path.read_bytes()).decode()


# A note in small print, a table, a picture, an image, settings, or a fold.
Part = (
  str
  | result_tables.ResultTable
  | mpl_figure.Figure
  | Image
  | Mapping[str, Any]
  | Folded
  | None
)
Sections = Sequence[tuple[str, Sequence[Part]]]


def render(title: str, summary: Sequence[Part], sections: Sections) -> str:
  """A whole page, which needs no network and no other file.

  Args:
    title: plain text.
    summary: parts below the title.
    sections: titles and parts; empty parts and sections are left out.
  """
  shown = [(name, _parts(parts)) for name, parts in sections]
  flat = [part for _, parts in sections for part in parts]
  text = _template().render(
    title=title,
    summary=_parts(summary),
    sections=[{'title': n, 'parts': parts} for n, parts in shown if parts],
    sortable=any(
      isinstance(x, result_tables.ResultTable) and x.keys for x in flat
    ),
  )
  return text + '\n'


@functools.cache
def _template() -> jinja2.Template:
  text = resources.files('mtl_jax.reporting').joinpath(TEMPLATE).read_text()
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined
  )
  return environment.from_string(text)


def _parts(parts: Sequence[Part]) -> list[tuple[str, Any]]:
  """Kind and content of each part that is not empty."""
  kinds = (_kind(part) for part in parts if part is not None)
  return [(kind, content) for kind, content in kinds if content]


def _kind(part) -> tuple[str, Any]:
  """Kind of a part in the template, and its content; empty for nothing."""
  if isinstance(part, str):
    return 'note', part
  if isinstance(part, result_tables.ResultTable):
    return 'table', part if part.rows else None
  if isinstance(part, mpl_figure.Figure):
    return 'picture', markupsafe.Markup(plots.to_svg(part))
  if isinstance(part, Image):
    return 'image', part
  if isinstance(part, Folded):
    inner = _parts(part.parts)
    return 'folded', Folded(part.title, inner) if inner else None
  if isinstance(part, Mapping):
    content = whole_files.plain(part)
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return 'settings', text if part else None
  raise TypeError(
    f'Expected a part of a page, found {part!r}; give one of {Part}.'
  )
