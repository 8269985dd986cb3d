#!/usr/bin/env bash
# Builds ascend310_infer/out/main and out/convert against MindSpore Lite, or only the unit tests (--test).
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: build.sh [--fetch] [--test | --sanitize | --lint]

  --fetch     without Lite on this machine, take the mindspore-lite wheel from PyPI (x86-64, CPU) into
              ${XDG_CACHE_HOME:-~/.cache}/mindspore-lite; its headers and libraries need no Python of its own
  --test      build and run the unit tests, which need no Lite, instead of the program
  --sanitize  the same under AddressSanitizer and UndefinedBehaviorSanitizer
  --lint      clang-tidy and cppcheck; what needs Lite's headers is left out until the program has been built

MindSpore Lite is looked for in $LITE_HOME, $MS_LITE_HOME, an installed mindspore-lite wheel, and the cache of --fetch.
Exit status: 0 done, 1 failed, 2 wrong arguments, 3 something that this machine lacks, which is named.
TEXT
}

fail() {
  echo "error: $*" >&2
  exit 1
}

lacking() {
  echo "error: $*" >&2
  exit 3
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
lite_version=2.0.0
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mindspore-lite/$lite_version
fetch=no test=no lint=no sanitize=OFF
for argument in "$@"; do
  case $argument in
    --fetch) fetch=yes ;;
    --test) test=yes ;;
    --lint) lint=yes ;;
    --sanitize) test=yes sanitize=ON ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

is_lite() { [[ -f $1/include/api/model.h || -f $1/runtime/include/api/model.h ]]; }

# The folder of a Python package, which is not imported.
installed() {
  "$python" -c 'import importlib.util as u, sys; print(u.find_spec(sys.argv[1]).submodule_search_locations[0])' "$1" \
    2>/dev/null
}

find_lite() {
  local folder
  for folder in "${LITE_HOME:-}" "${MS_LITE_HOME:-}"; do
    [[ -z $folder ]] && continue
    is_lite "$folder" || fail "$folder (LITE_HOME or MS_LITE_HOME) has no include/api/model.h"
    echo "$folder"
    return
  done
  if folder=$(installed mindspore_lite) && is_lite "$folder"; then
    echo "$folder"
  elif is_lite "$cache/unpacked/mindspore_lite"; then
    echo "$cache/unpacked/mindspore_lite"
  fi
}

fetch_lite() {
  [[ $(uname -sm) == "Linux x86_64" ]] || lacking "the wheel serves Linux on x86-64 only; install Lite and set LITE_HOME"
  local staging
  mkdir -p "$cache"
  staging=$(mktemp -d "$cache/fetching.XXXXXX")
  # The wheel is for Python 3.7; only its headers and libraries are used, so any Python may fetch it.
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.7 --implementation cp --abi cp37m \
    --platform manylinux1_x86_64 --dest "$staging" "mindspore-lite==$lite_version" \
    || { rm -rf "$staging"; lacking "pip could not download mindspore-lite $lite_version"; }
  "$python" -m zipfile -e "$staging"/mindspore_lite-*.whl "$staging/unpacked"
  # The last step is a rename: an interrupted fetch leaves nothing that looks whole.
  mv -T "$staging/unpacked" "$cache/unpacked" 2>/dev/null || is_lite "$cache/unpacked/mindspore_lite"
  rm -rf "$staging"
}

# The folder of nlohmann/json.hpp: the system's, or that of an installed MindSpore, whose wheel has it.
find_json() {
  local folder
  for folder in /usr/include "$(installed mindspore)/include/third_party"; do
    [[ ! -f $folder/nlohmann/json.hpp ]] || { echo "$folder"; return; }
  done
}

require() {
  local missing=()
  command -v cmake >/dev/null || missing+=(cmake)
  command -v c++ >/dev/null || missing+=(g++)
  [[ -e /usr/include/jpeglib.h || -n ${CMAKE_PREFIX_PATH:-} ]] || missing+=(libjpeg-dev)
  [[ -e /usr/include/png.h || -n ${CMAKE_PREFIX_PATH:-} ]] || missing+=(libpng-dev)
  [[ -e /usr/include/openssl/evp.h || -n ${CMAKE_PREFIX_PATH:-} ]] || missing+=(libssl-dev)
  json=$(find_json)
  [[ -n $json || -n ${CMAKE_PREFIX_PATH:-} ]] || missing+=(nlohmann-json3-dev)
  [[ $test == no || -e /usr/include/gtest/gtest.h || -n ${CMAKE_PREFIX_PATH:-} ]] || missing+=(libgtest-dev)
  ((${#missing[@]} == 0)) || lacking "missing: ${missing[*]} (Debian's package names)"
}

# configure_and_build FOLDER CMAKE_ARGUMENT...
configure_and_build() {
  local folder=$1 made_in
  shift
  # CMake refuses a folder that was made under another path: the checkout has been moved or copied.
  made_in=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$folder/CMakeCache.txt" 2>/dev/null) || true
  [[ -z $made_in || $made_in == "$here" ]] || rm -rf "$folder"
  cmake -S "$here" -B "$folder" ${json:+-DJSON_INCLUDE="$json"} "$@"
  cmake --build "$folder" --parallel "$(nproc)"
}

# The library of the wheel does not say its version, but the folder of metadata beside it does.
lite_version_of() {
  local version metadata
  version=$("$here/build/release/main" --version)
  for metadata in "$1"/../mindspore_lite-*.dist-info; do
    [[ -n $version || ! -d $metadata ]] || version=$(basename "$metadata" .dist-info)
  done
  echo "${version#mindspore_lite-}"
}

run_lint() {
  local tool database=build/release
  for tool in clang-tidy cppcheck; do
    command -v "$tool" >/dev/null || lacking "missing: $tool (Debian's package name)"
  done
  cd "$here"
  local -a sources=(src/*.cc)
  if [[ ! -f $database/compile_commands.json ]]; then
    database=build/lint
    cmake -S . -B "$database" ${json:+-DJSON_INCLUDE="$json"} >/dev/null
    sources=(src/{files,image,manifest,options,pipeline,preprocess,resize,results,sha256,text}.cc)
    echo "src/main.cc, lite_model.cc and convert.cc are left out: they need Lite's headers, build the program first"
  fi
  printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy --quiet -p "$database"
  cppcheck --quiet --std=c++17 --enable=warning,style,performance,portability --suppress=missingInclude \
    --suppress=useStlAlgorithm --inline-suppr --error-exitcode=1 -I . src
}

require
if [[ $lint == yes ]]; then
  run_lint
  exit
fi
if [[ $test == yes ]]; then
  folder=$here/build/release  # what the program has built already is not built again
  [[ $sanitize == OFF ]] || folder=$here/build/sanitize
  configure_and_build "$folder" -DBUILD_TESTS=ON -DSANITIZE=$sanitize
  exec "$folder/unit_tests" --gtest_brief=1
fi

lite=$(find_lite)
if [[ -z $lite && $fetch == yes ]]; then
  fetch_lite
  lite=$(find_lite)
fi
[[ -n $lite ]] || lacking "no MindSpore Lite: set LITE_HOME to its folder, or run $0 --fetch on an x86-64 host"
configure_and_build "$here/build/release" -DLITE_ROOT="$lite" -DBUILD_TESTS=OFF
mkdir -p "$here/out"
version=$(lite_version_of "$lite")
[[ -z $version || ${version%%.*} -ge 2 ]] || fail "MindSpore Lite $version in $lite is too old: 2.0 or later is needed"
for program in main convert; do
  [[ ! -f $here/build/release/$program ]] || cp -f "$here/build/release/$program" "$here/out/$program"
done
echo "built $here/out/main with MindSpore Lite ${version:-of unknown version} from $lite"
