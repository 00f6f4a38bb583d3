// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage-2 translation tables as a pure builder.
