# SPDX-License-Identifier: MIT OR Apache-2.0
# `make run` and `make test` need nothing else to have been done before; `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -euc
MAKEFLAGS += --no-print-directory

CONFIG ?= configs/qemu-virt/default.toml

# What `septum` is told, from make's variables.
machine := $(if $(GIC),--gic $(GIC)) $(if $(CPU),--cpu $(CPU)) $(if $(SMP),--smp $(SMP)) \
    $(if $(MEMORY),--memory $(MEMORY))
running := $(if $(TIMEOUT),--timeout $(TIMEOUT)) $(if $(UNTIL),--until '$(UNTIL)')
septum := cargo septum
bare_metal := tools/setup/bare-metal-cargo
# The packages that also build for the bare-metal target.
bare_metal_packages := --package septum --package septum-guests

.PHONY: help setup tool run check build test test-pc test-system bench lint clean

help:
	@echo 'make run            boot two guests on QEMU, a Linux and a bare-metal one; CONFIG=FILE boots another'
	@echo '                    configuration, GIC=2|3 CPU=MODEL SMP=N MEMORY=SIZE another machine,'
	@echo '                    UNTIL=REGEX TIMEOUT=SECS ends it when the console has said that'
	@echo 'make test           all tests; test-pc those that need no QEMU, test-system those that boot it'
	@echo 'make check          plan CONFIG and show who owns what, or what is wrong with it'
	@echo 'make build          septum.img and the bundle of CONFIG'
	@echo 'make bench          what exits, boot and memory cost, beside what they may cost'
	@echo 'make lint           formatting and lints'
	@echo 'make setup          get what all this needs; every target runs it first. SETUP=no installs nothing'
	@echo '                    and says what is missing'
	@echo 'make clean          remove what was built; ~/.cache/septum keeps the Debian kernel'
	@echo
	@echo '`cargo septum help` shows the tool behind run, check and build.'

setup:
	@tools/setup/setup $(if $(filter setup,$(MAKECMDGOALS)),report)

# The alias is silent, which is too long for the first build.
tool: setup
	@test -x "$${CARGO_TARGET_DIR:-target}/debug/septum" || cargo build --package septum-tool --bin septum

run: tool
	@$(septum) run $(CONFIG) $(machine) $(running) $(ARGS)

check: tool
	@$(septum) check $(CONFIG) $(machine)

build: tool
	@$(septum) build $(CONFIG) $(machine)

test: test-pc test-system

test-pc: setup
	cargo test --workspace --exclude septum-system-tests

# They boot several machines each; more at a time than CPUs only makes all of them late.
test-system: setup
	cargo test --package septum-system-tests

bench: tool
	@$(septum) bench

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(bare_metal) clippy --release $(bare_metal_packages) --target-dir target/firmware -- -D warnings
	$(if $(shell command -v shellcheck),shellcheck -x tools/setup/setup tools/setup/bare-metal-cargo .ci/run && \
	    shellcheck -s sh tools/septum/initramfs/*)

clean:
	cargo clean
