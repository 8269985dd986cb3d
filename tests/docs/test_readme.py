"""The README's table is the one the registry and the recipes give."""

from src.models.table import BEGIN, END, markdown


def test_the_table_of_networks_is_up_to_date(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    table = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert table == markdown(), "run `python summary.py --markdown` and put its output into README.md"
