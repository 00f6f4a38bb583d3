// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest gets when it does wrong.
