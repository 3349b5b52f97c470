# Sourced by the scripts beside it: the project's folder, messages, and the Debian packages a build needs.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
[ -t 2 ] || say() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Debian package and how to see that what it gives is there, whoever installed it: a command, a file, or a header to
# include.
requirement() {
  case $1 in
    cmake) echo "command cmake" ;;
    ninja) echo "command ninja ninja-build" ;;
    g++) echo "command ${CXX:-g++} g++" ;;
    eigen) echo "header Eigen/Core libeigen3-dev" ;;
    json) echo "header nlohmann/json.hpp nlohmann-json3-dev" ;;
    doctest) echo "header doctest/doctest.h doctest-dev" ;;
    cli11) echo "header CLI/CLI.hpp libcli11-dev" ;;
    zlib) echo "header zlib.h zlib1g-dev" ;;
    png) echo "header png.h libpng-dev" ;;
    benchmark) echo "header benchmark/benchmark.h libbenchmark-dev" ;;
    xfonts) echo "file /usr/share/fonts/X11/75dpi/helvR12.pcf.gz xfonts-75dpi" ;;
    *) die "unknown requirement $1" ;;
  esac
}

present() {  # KIND WHAT
  case $1 in
    command) command -v "$2" >/dev/null ;;
    file) [ -e "$2" ] ;;
    header)
      local folder folders=(/usr/include /usr/local/include /opt/homebrew/include)
      [ -n "${CPLUS_INCLUDE_PATH:-}" ] && IFS=: read -ra extra <<<"$CPLUS_INCLUDE_PATH" && folders+=("${extra[@]}")
      [ -n "${CMAKE_PREFIX_PATH:-}" ] && IFS=':;' read -ra extra <<<"$CMAKE_PREFIX_PATH" && folders+=("${extra[@]/%//include}")
      for folder in "${folders[@]}"; do
        [ -e "$folder/$2" ] || [ -e "$folder/eigen3/$2" ] && return 0
      done
      return 1 ;;
  esac
}

# Makes sure of the named requirements: on Debian and its like by installing what is missing, elsewhere by naming it.
need() {
  local name kind what package missing=()
  for name in "$@"; do
    read -r kind what package <<<"$(requirement "$name")"
    present "$kind" "$what" || missing+=("${package:-$what}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get >/dev/null || die "missing (names of Debian packages): ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "missing, and there is no sudo to install them: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq </dev/null >&2 || say "apt-get update failed; trying with the lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    </dev/null >&2 || die "could not install ${missing[*]}"
}

# Configures a preset and builds the given targets (all, if none are given). ccache is used where it is installed.
build() {  # PRESET [TARGET...]
  local preset=$1 options=()
  shift
  if command -v ccache >/dev/null && [ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ]; then
    options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    [ "$preset" = cuda ] && options+=(-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
  fi
  say "configuring $preset"
  (cd "$root" && cmake --preset "$preset" "${options[@]}" >&2)
  say "building $preset${*:+: $*}"
  (cd "$root" && cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"} >&2)
}
