# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Which Rust builds for the PC and for the bare-metal target, and how one gets there.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

rust_target=aarch64-unknown-none-softfloat
rust_minimum=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
# Debian's current Rust, kept up to date in its stable releases for web browsers.
rust_packages=(rustc-web cargo-web rust-web-src rust-web-llvm rust-web-clippy rustfmt-web)

# Prints how the bare-metal target is built here: `target` when the active toolchain has it, `debian` when Debian's
# compiler builds core and alloc from its own source package, nothing when neither can.
rust_way() {
    local sysroot
    sysroot=$(cd "$root" && rustc --print sysroot 2>/dev/null) || sysroot=
    if [ -n "$sysroot" ] && [ -d "$sysroot/lib/rustlib/$rust_target/lib" ]; then
        echo target
    elif [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library/core ] && [ -x /usr/bin/rust-lld ] &&
        at_least "$(/usr/bin/rustc --version 2>/dev/null | version_in)" "$rust_minimum"; then
        echo debian
    fi
}

# Tells whether there is a Rust, new enough, that builds for the PC, and a linker for it.
rust_on_pc() {
    have cc && (cd "$root" && cargo --version >/dev/null 2>&1) &&
        at_least "$(cd "$root" && rustc --version 2>/dev/null | version_in)" "$rust_minimum"
}

# Tells whether rustup is there and may fetch.
rustup_may_fetch() { have rustup && have cc && [ "${RUSTUP_AUTO_INSTALL:-1}" != 0 ]; }

# Adds the target to the toolchain of rust-toolchain.toml, which it fetches only where there is none: a toolchain that the
# user has is never updated.
rust_by_rustup() {
    (cd "$root" && { rustc --version >/dev/null 2>&1 ||
        rustup toolchain install stable --no-self-update --profile minimal; } &&
        rustup target add "$rust_target" && rustup component add clippy rustfmt) </dev/null >&2
}

# Installs Debian's Rust; its package lists are fresh.
rust_by_apt() {
    local package version linker
    version=$(candidate rustc-web | version_in)
    if ! at_least "$version" "$rust_minimum"; then
        say "this system's packages have no Rust $rust_minimum or later (rustc-web is ${version:-not there})"
        return 1
    fi
    # rust-lld comes with the LLVM that the compiler was built with.
    linker=$(apt-cache depends rust-web-llvm | sed -n 's/^ *Depends: llvm-\([0-9]*\)$/lld-\1/p' | head -n 1)
    apt_get install --yes --no-install-recommends "${rust_packages[@]}" "${linker:-lld}" gcc libc6-dev
}
