// SPDX-License-Identifier: MIT OR Apache-2.0
//! The AArch64 hardware: entry, vectors, translation, system registers.
