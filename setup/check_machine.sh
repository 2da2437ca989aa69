#!/bin/sh
# Say what this machine lacks, before anything is installed: all of it at once, each with its remedy.
#
#   sh setup/check_machine.sh PYTHON ENVIRONMENT DISK_GB MEMORY_GB
#
# Ends with status 1 where something is missing. Only what POSIX has is used, so that it runs where nothing is installed.
set -u
python=$1 environment=$2 disk_gb=$3 memory_gb=$4
compiler=${CXX:-c++}
lacking=0

has() {
    command -v "$1" > /dev/null 2>&1
}

if has apt-get; then
    system=debian
elif has dnf; then
    system=fedora
elif has brew || [ "$(uname -s 2> /dev/null)" = Darwin ]; then
    system=macos
else
    system=other
fi

# What is missing, and the remedy on Debian, on Fedora and on macOS.
lacks() {
    lacking=$((lacking + 1))
    case $system in
        debian) remedy=$2 ;;
        fedora) remedy=$3 ;;
        macos) remedy=$4 ;;
        *) remedy="Debian, Ubuntu: $2; Fedora: $3; macOS: $4" ;;
    esac
    printf 'setup: %s. Remedy: %s\n' "$1" "$remedy" >&2
}

# The same remedy everywhere.
lacks_room() {
    lacking=$((lacking + 1))
    printf 'setup: %s. Remedy: %s\n' "$1" "$2" >&2
}

is_number() {
    case $1 in
        '' | *[!0-9]*) return 1 ;;
    esac
}

check_python() {
    another='then make PYTHON=python3.12 setup'
    if ! has "$python"; then
        lacks "there is no program $python; Python 3.11, 3.12 or 3.13 is needed" \
            'apt-get install python3 python3-venv python3-dev' \
            'dnf install python3 python3-devel' \
            "brew install python@3.12, $another"
        return
    fi
    # A line for each: version, whether it is one of ours, whether it can make an environment, headers, C++ compiler.
    about=$("$python" -c '
import os, sys, sysconfig
try:
    import ensurepip, venv
    can = "yes"
except ImportError:
    can = "no"
version = sys.version_info[:2]
print("%d.%d" % version)
print("yes" if (3, 11) <= version <= (3, 13) else "no")
print(can)
print(sysconfig.get_path("include"))
print(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")  # as setuptools chooses it
' 2>&1) || {
        lacks_room "$python does not run: $about" 'make PYTHON=python3.12 setup, with a Python that does'
        return
    }
    {
        read -r version
        read -r supported
        read -r makes_environments
        read -r headers
        read -r compiler
    } << EOF
$about
EOF
    if [ "$supported" = no ]; then
        lacks "$python is Python $version; 3.11, 3.12 or 3.13 is needed" \
            "apt-get install python3.12 python3.12-venv python3.12-dev, $another" \
            "dnf install python3.12 python3.12-devel, $another" \
            "brew install python@3.12, $another"
        return
    fi
    if [ "$makes_environments" = no ] && [ ! -x "$environment/bin/python" ]; then
        lacks "Python $version cannot make environments (its modules venv and ensurepip are missing)" \
            "apt-get install python$version-venv" "dnf install python$version" "brew install python@$version"
    fi
    if [ ! -f "$headers/Python.h" ]; then
        lacks "the headers of Python $version are missing ($headers/Python.h), and fastText is built from source" \
            "apt-get install python$version-dev" "dnf install python$version-devel" \
            "brew install python@$version, then make PYTHON=python$version setup"
    fi
}

# fastText is built from source: build something.
check_compiler() {
    # Without Apple's tools, c++ on macOS is a program that only asks to install them.
    if ! has "${compiler%% *}" || { [ "$(uname -s 2> /dev/null)" = Darwin ] && ! xcode-select -p > /dev/null 2>&1; }; then
        lacks "there is no C++ compiler (${compiler%% *}), and fastText is built from source" \
            'apt-get install g++' 'dnf install gcc-c++' 'xcode-select --install'
        return
    fi
    place=$(mktemp -d 2>&1) || {
        lacks_room "no temporary folder can be made: $place" 'set TMPDIR to a folder with room'
        return
    }
    printf '#include <vector>\nint main() { return std::vector<int>(1).front(); }\n' > "$place/try.cc"
    # Its options stand in the same variable.
    # shellcheck disable=SC2086
    if ! said=$(cd "$place" && $compiler -std=c++17 -o try try.cc 2>&1); then
        lacks "the C++ compiler ${compiler%% *} does not build a program, and fastText is built from source: $(first "$said")" \
            'apt-get install g++' 'dnf install gcc-c++' 'xcode-select --install'
    fi
    rm -rf "$place"
}

first() {
    printf '%s\n' "$1" | {
        read -r line
        printf '%s' "$line"
    }
}

check_git() {
    has git || lacks 'there is no program git, which DVC needs' 'apt-get install git' 'dnf install git' 'xcode-select --install'
}

# The free space of a folder, or of the nearest one above it that exists: its file system, then kibibytes.
free_space() {
    folder=$1
    while [ ! -d "$folder" ]; do
        above=$(dirname "$folder")
        [ "$above" = "$folder" ] && return
        folder=$above
    done
    df -Pk "$folder" 2> /dev/null | {
        read -r _
        read -r device _ _ free_kb _
        printf '%s %s' "$device" "$free_kb"
    }
}

check_disk() {
    # What was installed here once is replaced, not added.
    [ -f "$environment/.ready" ] && return
    here=$(free_space .)
    check_room "$here" 'this folder' "free some, or clone the project to another disk; $smaller"
    cache=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/}/.cache}/uv}
    there=$(free_space "$cache")
    if [ "${there%% *}" != "${here%% *}" ]; then
        check_room "$there" "the cache of packages ($cache)" "free some, or UV_CACHE_DIR=FOLDER on another disk; $smaller"
    fi
}

smaller='without a GPU, CPU_INDEX=ADDRESS installs less than half (docs/install.md)'

check_room() {
    kb=${1##* }
    is_number "$kb" || return 0
    if [ "$kb" -lt $((disk_gb * 1000000)) ]; then
        lacks_room "$2 has $((kb / 1000000)).$((kb / 100000 % 10)) GB of free disk, and $disk_gb GB are needed" "$3"
    fi
}

# In kibibytes: what the machine has, or less where a limit holds.
memory() {
    least=$(machine_memory)
    for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes "/sys/fs/cgroup$(own_group)/memory.max"; do
        if [ -r "$file" ] && read -r limit < "$file" && is_number "$limit" && [ ${#limit} -lt 19 ]; then
            least=$(smaller_of "$least" $((limit / 1024)))
        fi
    done
    # A limit on addresses, as schedulers of jobs set it.
    limit=$(ulimit -v 2> /dev/null) && least=$(smaller_of "$least" "$limit")
    printf '%s' "$least"
}

machine_memory() {
    if [ -r /proc/meminfo ]; then
        while read -r name kb _; do
            [ "$name" = MemTotal: ] && printf '%s' "$kb" && return
        done < /proc/meminfo
    elif has sysctl; then
        bytes=$(sysctl -n hw.memsize 2> /dev/null) && is_number "$bytes" && printf '%s' $((bytes / 1024))
    fi
}

own_group() {
    [ -r /proc/self/cgroup ] || return 0
    while IFS=: read -r number _ path; do
        [ "$number" = 0 ] && printf '%s' "$path" && return
    done < /proc/self/cgroup
}

smaller_of() {
    if ! is_number "$2"; then
        printf '%s' "$1"
    elif ! is_number "$1" || [ "$2" -lt "$1" ]; then
        printf '%s' "$2"
    else
        printf '%s' "$1"
    fi
}

check_memory() {
    kb=$(memory)
    is_number "$kb" || return 0
    gb="$((kb / 1000000)).$((kb / 100000 % 10)) GB of memory"
    if [ "$kb" -lt $((memory_gb * 1000000)) ]; then
        lacks_room "there are $gb for this process, and $memory_gb GB are needed" \
            'a machine or a container with more, or a higher limit (ulimit -v, memory.max)'
        return
    fi
    # A worker of score needs 0.8 GB with the demo, the driver and PostgreSQL 1 GB: measured, see `laion-dask trace`.
    cores=$(getconf _NPROCESSORS_ONLN 2> /dev/null) || return 0
    workers=$(((kb - 1000000) / 800000))
    if is_number "$cores" && [ "$workers" -lt "$cores" ]; then
        printf 'setup: note: with %s and %s cores, run fewer workers than cores: export DASK_LAION_DASK__CLUSTER__WORKERS=%s\n' \
            "$gb" "$cores" "$workers" >&2
    fi
}

check_python
check_compiler
check_git
check_disk
check_memory
if [ "$lacking" -gt 0 ]; then
    printf 'setup: nothing was installed. UNCHECKED=1 make setup tries without these checks\n' >&2
    exit 1
fi
