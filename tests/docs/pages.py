"""The pages of the documentation and what stands in them: links, headings, blocks of code, commands."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FRONT = "README.md"


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def pages() -> list[str]:
    """Every page of the repository, as a path below its top."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [page for page in found.splitlines() if (ROOT / page).is_file()]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def prose(text: str) -> str:
    """``text`` without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[tuple[int, str]]:
    """(level, words) of each heading."""
    return [(len(marks), words) for marks, words in re.findall(r"^(#+) (.+)$", prose(text), re.MULTILINE)]


def links(text: str) -> list[str]:
    """Targets of the links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """What can stand behind # in a link to a page, as GitHub makes it of the headings."""
    return {re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-") for _, words in headings(text)}


def spans(text: str) -> list[str]:
    """What stands in backticks, on one line."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(text))]


def command_lines(block: str) -> list[tuple[str, str]]:
    """(command, comment) of each line of a shell block, continued lines joined. A comment on a line of its own counts
    for the lines below it."""
    lines, above = [], ""
    for line in block.replace("\\\n", " ").splitlines():
        command, _, comment = line.partition("#") if re.search(r"(^|\s)#", line) else (line, "", "")
        if command.strip():
            lines.append((command.strip(), f"{above} {comment}".strip()))
        else:
            above = comment.strip()
    return lines


def commands(page: str) -> list[tuple[str, str]]:
    """(command, comment) of everything on a page that a reader might type; in running text the comment is the
    paragraph around it."""
    text = text_of(page)
    found = [line for block in blocks(text) if block.language == "bash" for line in command_lines(block.text)]
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", prose(text)):
        for span in spans(paragraph):
            if re.match(r"(\w+=\S+ )?(python|make|bash|sh|sbatch|mpirun) ", span):
                found.append((span, paragraph))
    return found


def words_of(command: str) -> tuple[dict[str, str], list[str]]:
    """Variables set in front of a command, and its words."""
    words = shlex.split(command)
    variables = {}
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words
