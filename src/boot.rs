// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the first instruction to running guests.
