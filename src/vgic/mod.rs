// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual interrupt controller: distributor, redistributors and list registers as pure policy.
