"""Every page is reached from the README, every link leads somewhere, and what a page names exists."""

from __future__ import annotations

import ast
import importlib
import os.path
import re
from functools import cache
from pathlib import PurePosixPath

import pytest

from src.settings.command_line import COMMANDS
from src.settings.config import DEFAULTS
from src.settings.upstream_flags import flags_of
from tests.docs.pages import FRONT, ROOT, anchors, blocks, links, pages, spans, text_of

PAGES = pages()
HISTORY = "CHANGELOG.md"  # speaks of what is no more
ORIGINALS = "docs/originals.md"  # speaks of what others have, each line with a test of its own
# Flags of programs that are not ours, as a page names them.
OTHERS = {"--fmk", "--optimize", "--durations", "--signal"}


def target_of(page: str, link: str) -> tuple[str, str]:
    """The file a link of ``page`` leads to, below the top, and the anchor in it."""
    path, _, anchor = link.partition("#")
    below = PurePosixPath(page).parent / path if path else PurePosixPath(page)
    return os.path.normpath(below), anchor


def local_links(page: str) -> list[tuple[str, str]]:
    return [target_of(page, link) for link in links(text_of(page)) if not re.match(r"\w+:", link)]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page):
    for target, anchor in local_links(page):
        assert (ROOT / target).exists(), target
        assert not target.startswith(".."), f"{target} is outside the repository"
        if anchor:
            assert anchor in anchors(text_of(target)), f"{target}#{anchor}"


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [FRONT]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.endswith(".md"):
            continue
        reached.add(page)
        for target, _ in local_links(page):
            waiting += [target, f"{target}/README.md"] if (ROOT / target).is_dir() else [target]
    assert set(PAGES) - reached == set()


def test_a_newcomer_reads_the_readme_in_five_minutes():
    text = text_of(FRONT)
    assert len(text.splitlines()) <= 160
    # 200 words a minute; a command, a path or a link counts as one, and a table is looked up, not read.
    read = [line for line in text.splitlines() if not line.startswith("|")]
    assert len(" ".join(read).split()) <= 1000


@pytest.mark.parametrize("page", PAGES)
def test_a_block_says_its_language_and_its_imports_are_there(page):
    for block in blocks(text_of(page)):
        assert block.language in ("bash", "python", "text", "yaml"), block
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in (HISTORY, ORIGINALS)])
def test_every_file_that_a_page_names_is_there(page):
    top = "|".join(
        re.escape(path.name) for path in ROOT.iterdir() if path.is_dir() and path.name not in ("runs", "data")
    )
    for span in spans(text_of(page)):
        if re.fullmatch(rf"(?:{top})/[\w./+-]*|[\w-]+\.(?:py|md|yaml|toml|txt)", span) and span != "config.yaml":
            near = ROOT / PurePosixPath(page).parent / span
            assert (ROOT / span).exists() or near.exists() or named_anywhere(span), span


def named_anywhere(name: str) -> bool:
    """A bare name that the sources spell: a module of the wing that is spoken of, or a file that a program writes."""
    return "/" not in name and (f"/{name}" in all_names() or name in sources())


@cache
def all_names() -> str:
    return "\n".join(str(path) for wing in ("src", "scripts", "tests", "bench") for path in (ROOT / wing).rglob("*.*"))


@cache
def sources() -> str:
    """The text of all that reads flags."""
    patterns = ("*.py", "src/**/*.py", "bench/*.py", "modelarts/*.py", "tests/*.py", "scripts/**/*.sh")
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    files += [*(ROOT / "ascend310_infer" / "src").glob("*.cc"), ROOT / "ascend310_infer" / "build.sh"]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("page", [page for page in PAGES if page != ORIGINALS])
def test_every_flag_that_a_page_names_is_one(page):
    theirs = {name for program in ("train", "eval", "export", "search") for name in flags_of(program)}
    ours = {*DEFAULTS, *theirs, "config_path", *(name for commands in COMMANDS.values() for name in commands)}
    text = " ".join([*spans(text_of(page)), *(block.text for block in blocks(text_of(page)))])
    for flag in re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", text):
        is_key = flag[2:].replace("-", "_") in ours or flag in OTHERS
        assert is_key or re.search(rf"{flag}(?![\w-])", sources()), flag
