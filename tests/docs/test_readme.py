"""The tables of networks are what the registry and the recipes give; the Chinese README is the English one."""

from __future__ import annotations

import re

import pytest

from src.models import get_entry, list_models
from src.models.table import END, TABLES
from tests.docs.pages import FRONT, blocks, command_lines, headings, links, spans, text_of

CHINESE = "README_CN.md"
HEAD = 3  # lines of a table before its first network: who made it, columns, their alignment


def table_of(page: str, name: str) -> str:
    text = text_of(page)
    begin = text.index(f"<!-- made by `python summary.py --markdown {name}` -->")
    return text[begin : text.index(END, begin) + len(END)]


@pytest.mark.parametrize(
    ("page", "name"), [(FRONT, "networks"), ("docs/networks.md", "variants"), ("docs/micronet.md", "micronet")]
)
def test_the_table_of_networks_is_up_to_date(page, name):
    made = f"run `python summary.py --markdown {name}` and put its output into {page}"
    assert table_of(page, name) == TABLES[name](), made


def test_the_readme_has_one_published_figure_of_each_network_and_the_other_page_all():
    rows = table_of(FRONT, "networks").splitlines()[HEAD:-1]
    whole = table_of("docs/networks.md", "variants")
    assert len(rows) == len(list_models())
    for name, row in zip(list_models(), rows, strict=True):
        published = get_entry(name).published
        assert re.findall(r"[\d.]+%", row) == [f"{published[0].top1:.2%}"]
        assert all(f"{item.top1:.2%}" in whole and item.source in whole for item in published)


def commands_of(page: str) -> list[tuple[str, list[str]]]:
    """Each block: its language, and its lines or commands without their comments."""
    return [
        (block.language, [command for command, _ in command_lines(block.text)] if block.language == "bash" else [])
        for block in blocks(text_of(page))
    ]


def paths_of(page: str) -> list[str]:
    """What the block of the layout names, without what it says about it."""
    (layout,) = (block.text for block in blocks(text_of(page)) if block.language == "text")
    return re.findall(r"[\w/.]*(?:/|\.py|\.yaml)(?=\s)", layout)


def test_the_chinese_readme_has_the_same_commands_headings_links_and_names():
    assert commands_of(CHINESE) == commands_of(FRONT)
    assert [level for level, _ in headings(text_of(CHINESE))] == [level for level, _ in headings(text_of(FRONT))]
    assert paths_of(CHINESE) == paths_of(FRONT)
    assert sorted(set(spans(text_of(CHINESE)))) == sorted(set(spans(text_of(FRONT))))
    # Each leads to the other; an anchor is made of a heading, which is another here.
    pages = [[link for link in links(text_of(page)) if link[0] != "#"] for page in (CHINESE, FRONT)]
    assert sorted(pages[0]) == sorted(FRONT if link == CHINESE else link for link in pages[1])
    assert table_of(CHINESE, "networks").splitlines()[HEAD:] == table_of(FRONT, "networks").splitlines()[HEAD:]


def test_the_chinese_readme_is_chinese():
    for _, words in headings(text_of(CHINESE)):
        assert re.search(r"[\u4e00-\u9fff]", words), words
    paragraphs = [part for part in text_of(CHINESE).split("\n\n") if not re.match(r"```|<!--|\[English", part)]
    assert [part for part in paragraphs if not re.search(r"[\u4e00-\u9fff]", part)] == []
