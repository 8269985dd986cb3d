"""The library of operators is built once for each source, compiler and processor, whoever shares the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from src.cpu import build

# What a compiler says of itself and of the processor stands in files; it compiles with the real one.
COMPILER = """\
#!/bin/sh
case "$*" in
    --version) exec cat {folder}/version ;;
    *-march=native*-dM*) exec cat {folder}/processor ;;
    *-dM*) exit 9 ;;
esac
exec {real} "$@"
"""


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """A folder that holds compiler, version, processor, sources and cache of a machine, to be changed."""
    (tmp_path / "version").write_text("13.2")
    (tmp_path / "processor").write_text("#define __AVX2__ 1\n")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "one.cc").write_text('extern "C" int one() { return 1; }\n')
    (tmp_path / "sources" / "one.h").write_text("// nothing\n")
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER.format(folder=tmp_path, real=build.find_compiler()))
    compiler.chmod(0o755)
    monkeypatch.setattr(build, "SOURCES", tmp_path / "sources")
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("NAS_CPU_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(build.EXTRA_FLAGS, raising=False)
    build.library.cache_clear()
    yield tmp_path
    build.library.cache_clear()


def asked() -> tuple[Path, bool]:
    """The library as a new process gets it, and whether it was built for that."""
    build.library.cache_clear()
    before = set(build.cache_folder().glob("*"))
    path = build.library()
    return path, path not in before


def test_what_is_in_the_cache_is_not_built_again(machine):
    path, is_built = asked()
    assert is_built and path.parent == machine / "cache"
    before = path.stat().st_mtime_ns
    assert asked() == (path, False)
    assert path.stat().st_mtime_ns == before
    assert list((machine / "cache").iterdir()) == [path]


def test_machines_with_one_home_have_a_library_each(machine):
    """Code for the processor that built it may be an illegal instruction on another."""
    first, _ = asked()
    (machine / "processor").write_text("#define __AVX512F__ 1\n")
    second, is_built = asked()
    assert is_built and second != first
    (machine / "processor").write_text("#define __AVX2__ 1\n")
    assert asked() == (first, False)


@pytest.mark.parametrize("change", ["version", "sources/one.cc", "sources/one.h", "sources/new.h", build.EXTRA_FLAGS])
def test_the_key_depends_on_compiler_flags_and_every_source(machine, monkeypatch, change):
    compiler = str(machine / "compiler")
    before = build._key(compiler)
    assert build._key(compiler) == before
    if change == build.EXTRA_FLAGS:
        monkeypatch.setenv(change, "-O1")
        assert build.flags()[-1] == "-O1"
    else:
        with (machine / change).open("a") as file:
            file.write("// more\n")
    assert build._key(compiler) != before


def test_a_library_that_does_not_load_is_named(machine):
    content = b"no library"
    key, checksum = build._key(str(machine / "compiler")), hashlib.sha256(content).hexdigest()[:16]
    path = machine / "cache" / f"operators-{key}-{checksum}.so"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(build.BuildError, match=f"{path.name} does not load"):
        asked()


@pytest.mark.parametrize("damage", [lambda whole: whole[:4096], lambda whole: b"", lambda whole: whole[:-1] + b"?"])
def test_a_damaged_library_is_built_anew(machine, caplog, damage):
    """The loader maps a truncated one and the process dies of SIGBUS in it."""
    path, _ = asked()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert asked()[0].read_bytes() == whole
    assert f"{path} is damaged and is built anew" in caplog.text


def test_a_library_that_another_user_can_write_to_is_not_loaded(machine, monkeypatch):
    path, _ = asked()
    path.chmod(0o777)
    with pytest.raises(build.BuildError, match="another user can write to"):
        asked()
    path.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.setattr(build.caches, "is_private", lambda path: path.suffix == ".so")  # the folder is not
    with pytest.raises(build.BuildError, match="another user can write to"):
        asked()


def test_a_generous_umask_is_made_good(machine):
    path, _ = asked()
    path.parent.chmod(0o775)
    assert asked() == (path, False)
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for own, cache, expected in (
        ("here", "there", Path("here")),
        ("", "there", Path("there/mobile-nas/cpu")),
        ("", "", tmp_path / ".cache/mobile-nas/cpu"),
    ):
        monkeypatch.setenv("NAS_CPU_CACHE", own)
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert build.cache_folder() == expected


@pytest.mark.parametrize(
    ("cxx", "installed", "found"),
    [
        ("mine", {"mine", "g++", "c++"}, "mine"),
        ("mine", {"clang++", "g++"}, "g++"),
        ("", {"c++", "clang++"}, "clang++"),
        (None, {"c++"}, "c++"),
    ],
)
def test_the_compiler_is_the_users_or_the_first_installed(monkeypatch, cxx, installed, found):
    monkeypatch.delenv("CXX", raising=False)
    if cxx is not None:
        monkeypatch.setenv("CXX", cxx)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in installed else None)
    assert build.find_compiler() == found


@pytest.mark.parametrize(("system", "processor"), [("darwin", "x86_64"), ("linux", "riscv64")])
def test_other_systems_are_refused_before_anything_is_built(machine, monkeypatch, system, processor):
    monkeypatch.setattr(build.sys, "platform", system)
    monkeypatch.setattr(build.platform, "machine", lambda: processor)
    with pytest.raises(build.BuildError, match=f"not made for {processor} on {system}"):
        asked()
    assert not (machine / "cache").exists()
