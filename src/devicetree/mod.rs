// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the board's device tree and writes the guests' trees.
