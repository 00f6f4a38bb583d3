# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Debian's arm64 kernel, its virtio modules and busybox for the demo guests, kept in the cache for all checkouts. The
# package state is our own: nothing of the machine's lists, architectures or sources changes, and root is not needed.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The modules that the demo's /init loads; a kernel that has one built in has no file for it.
modules=(virtio_mmio virtio_blk failover net_failover virtio_net virtio-rng)

# Tells whether all is there.
guests_are_there() { [ -s "$guests/vmlinuz" ] && [ -s "$guests/busybox" ] && [ -d "$guests/modules" ]; }

# Prints "SUITE URI KEYRING" of the Debian release that the guests come from: this machine's own, or else the one
# that DEBIAN_MIRROR names.
guests_source() {
    local codename
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        printf 'stable %s /usr/share/keyrings/debian-archive-keyring.gpg\n' "$DEBIAN_MIRROR"
    elif [ "$(os_release ID)" = debian ]; then
        codename=$(os_release VERSION_CODENAME)
        debian_suites | grep "^$codename " | head -n 1 || true
    fi
}

# Tells whether the guests can be fetched here.
guests_can_be_fetched() { have apt-get && have dpkg-deb && have tar && { [ -n "${DEBIAN_MIRROR:-}" ] || [ "$(os_release ID)" = debian ]; }; }

# Fetches them.
guests_fetch() {
    (
        mkdir -p "$cache"
        # Checkouts that set up at the same time wait for each other.
        exec 9>"$cache/lock"
        flock 9
        guests_are_there && exit 0
        work=$cache/debian-arm64.part
        rm -rf "$work"
        mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/new/modules"
        guests_unpack "$work"
        rm -rf "$guests"
        mv "$work/new" "$guests"
        rm -rf "$work"
        say "the kernel, its modules and busybox are in $guests"
    )
}

# Downloads the packages under $1 and lays out their files in $1/new.
guests_unpack() {
    local work=$1 codename uri keyring apt kernel module
    read -r codename uri keyring < <(guests_source) || true
    if [ -z "${uri:-}" ]; then
        say "no Debian mirror is known: set DEBIAN_MIRROR to one's address"
        return 1
    fi
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$codename" >"$work/apt/sources.list"
    apt=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= -o Acquire::Languages=none
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o Acquire::IndexTargets::deb::CNF::DefaultEnabled=false
        -o Dir::State="$work/apt" -o Dir::State::lists="$work/apt/lists" -o Dir::State::status=/dev/null
        -o Dir::Cache="$work/apt/cache"
        -o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null)
    say "fetching Debian's arm64 package list (9 MB)"
    apt-get "${apt[@]}" update </dev/null >&2
    # The metapackage depends on the current kernel by its full name.
    kernel=$(apt-cache "${apt[@]}" depends linux-image-arm64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
    if [ -z "$kernel" ]; then
        say "$uri has no linux-image-arm64 for $codename"
        return 1
    fi
    say "fetching $kernel and busybox-static for arm64 (60 MB)"
    (cd "$work" && apt-get "${apt[@]}" download "$kernel" busybox-static </dev/null >&2)

    say "unpacking"
    mkdir -p "$work/kernel" "$work/busybox"
    for module in "${modules[@]}"; do
        printf '*/%s.ko\n*/%s.ko.xz\n' "$module" "$module"
    done >"$work/wanted"
    echo './boot/vmlinuz-*' >>"$work/wanted"
    # What is not in the archive makes tar fail in the end; what is missing is checked below.
    dpkg-deb --fsys-tarfile "$work/$kernel"_*.deb |
        tar -x -C "$work/kernel" --wildcards --no-anchored --files-from "$work/wanted" 2>/dev/null || true
    dpkg-deb -x "$work"/busybox-static_*.deb "$work/busybox"
    mv "$work"/kernel/boot/vmlinuz-* "$work/new/vmlinuz"
    find "$work/busybox" -type f -name busybox -exec mv {} "$work/new/busybox" \;
    find "$work/kernel" -type f -name '*.ko*' -exec mv {} "$work/new/modules" \;
    find "$work/new/modules" -name '*.xz' -exec xz -d {} +
    echo "$kernel" >"$work/new/version"
    if [ ! -s "$work/new/vmlinuz" ] || [ ! -s "$work/new/busybox" ]; then
        say "$kernel or busybox-static is not laid out as expected"
        return 1
    fi
}
