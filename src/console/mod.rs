// SPDX-License-Identifier: MIT OR Apache-2.0
//! Console multiplexing: which partition a byte on the shared UART belongs to, and the operator shell.
