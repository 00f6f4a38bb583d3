# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# QEMU: whether it is there and new enough for every board, and how one gets it.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# What the most demanding board of platform/ asks for.
qemu_minimum=$(sed -n 's/^minimum = "\(.*\)"$/\1/p' "$root"/platform/*/board.toml | sort -V | tail -n 1)
qemu_packages=(qemu-system-arm ipxe-qemu)
backports_entry=/etc/apt/sources.list.d/septum-backports.sources

# Prints the installed version, or nothing.
qemu_version() { qemu-system-aarch64 --version 2>/dev/null | version_in; }

# Prints the version that apt would install, as QEMU counts: Debian's has an epoch.
qemu_candidate() { candidate qemu-system-arm | sed 's/^[0-9]*://' | version_in; }

# Tells whether this Debian release is older than the QEMU we need, so that it comes from backports.
qemu_needs_backports() {
    [ "$(os_release ID)" = debian ] && [ "$(os_release VERSION_ID)" = 12 ]
}

# Adds the suite of backports as a source of our own, from the mirror that this machine uses; edits no other source.
# Packages of backports are installed only where that is asked for by name.
qemu_add_backports() {
    local codename suite uri keyring
    codename=$(os_release VERSION_CODENAME)
    if debian_suites | grep -q "^$codename-backports "; then
        return
    fi
    # Installed for the keys of the other suites as well; nothing is added where there is no such suite.
    read -r suite uri keyring < <(debian_suites | grep "^$codename " || true) || true
    if [ -z "${uri:-}" ]; then
        say "this system's package sources name no Debian mirror for $codename"
        return 1
    fi
    say "adding $backports_entry: $suite-backports from $uri"
    as_root tee "$backports_entry" >/dev/null <<END
# Added by Septum's set-up, for QEMU $qemu_minimum or later; delete it when you no longer need that.
Types: deb
URIs: $uri
Suites: $codename-backports
Components: main
Signed-By: $keyring
END
    apt_get update
}

# Installs QEMU; the package lists are fresh.
qemu_by_apt() {
    local release=()
    if ! at_least "$(qemu_candidate)" "$qemu_minimum"; then
        if ! qemu_needs_backports; then
            say "this system's packages have QEMU $(qemu_candidate), $qemu_minimum or later is needed"
            return 1
        fi
        qemu_add_backports
        release=(-t "$(os_release VERSION_CODENAME)-backports")
    fi
    apt_get install --yes --no-install-recommends "${release[@]}" "${qemu_packages[@]}"
}
