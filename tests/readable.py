"""Whether a picture can be read: used by the tests of several pictures."""

import itertools

from matplotlib.backends import backend_agg


def assert_readable(figure):
  """Everything lies inside the picture, and no text on another."""
  backend_agg.FigureCanvasAgg(figure).draw()
  renderer = figure.canvas.get_renderer()
  page = figure.bbox
  boxes = []
  for axes in figure.axes:
    texts = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
    limits = (axes.get_xlim(), axes.get_ylim())
    for axis, (low, high) in zip((axes.xaxis, axes.yaxis), limits, strict=True):
      low, high = sorted((low, high))
      texts += [
        tick.label1 if tick.label1.get_visible() else tick.label2
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high
      ]
    texts += axes.texts
    if axes.get_legend():
      texts += axes.get_legend().get_texts()
    boxes += [
      (t.get_text(), t.get_window_extent(renderer))
      for t in texts
      if t.get_text() and t.get_visible()
    ]
  assert len(boxes) > 5
  for text, box in boxes:
    assert box.x0 >= -1 and box.y0 >= -1, text
    assert box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, text
  for (a, x), (b, y) in itertools.combinations(boxes, 2):
    overlap_x = min(x.x1, y.x1) - max(x.x0, y.x0)
    overlap_y = min(x.y1, y.y1) - max(x.y0, y.y0)
    assert min(overlap_x, overlap_y) < 1, (a, b)
