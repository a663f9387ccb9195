"""docs/data.md prints what it says."""

import contextlib
import io
import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'data.md'


def test_the_example_prints_its_table(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  text = PAGE.read_text(encoding='utf-8')
  ((code, expected),) = re.findall(
    r'```python\n(.*?)```\s+```text\n(.*?)```', text, re.DOTALL
  )
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    exec(compile(code, str(PAGE), 'exec'), {})
  assert printed.getvalue() == expected
