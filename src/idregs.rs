// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ID registers as guests see them, by allow-list.
