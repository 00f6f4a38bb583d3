# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What the scripts of this folder share; each sources it with `set -eu` in force.

# shellcheck disable=SC2034 # read by those who source this file
{
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/septum
    guests=$cache/debian-arm64
}

say() { printf 'setup: %s\n' "$*" >&2; }

# Tells whether a command is there.
have() { command -v "$1" >/dev/null 2>&1; }

# Tells whether version $1 (may be empty) is at least $2: numbers with a dot between.
at_least() {
    [ -n "$1" ] || return 1
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]; }
}

# Prints the first version number, major and minor, of its input.
version_in() { sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -n 1; }

# Prints a value of /etc/os-release, nothing where there is none.
os_release() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" /etc/os-release 2>/dev/null || true; }

# Tells whether packages can be installed here, without a password that nobody is there to type.
can_install() {
    have apt-get && have dpkg || return 1
    [ "$(id -u)" = 0 ] && return 0
    have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Runs apt-get as root; another one that holds its lock is waited for. It removes nothing that is installed.
apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 --no-remove "$@" </dev/null >&2; }

# Prints the version that apt would install of a package, or nothing.
candidate() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([^(]*\)$/\1/p'; }

# Prints "SUITE URI KEYRING" for each Debian suite that this machine's own sources name. Before the first `apt-get update`
# apt does not know whose a source is.
debian_suites() {
    local origin suite component uri keyring
    # shellcheck disable=SC2016 # apt-get fills them in
    apt-get indextargets --format '$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)|$(SIGNED_BY)' 'Created-By: Packages' 2>/dev/null |
        while IFS='|' read -r origin suite component uri keyring; do
            case $origin in Debian | 'Debian Backports' | '$(ORIGIN)') ;; *) continue ;; esac
            [ "$component" = main ] || continue
            [ -r "$keyring" ] || keyring=/usr/share/keyrings/debian-archive-keyring.gpg
            printf '%s %s %s\n' "$suite" "$uri" "$keyring"
        done
}
