// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bundle: the manifest and the guests' images in one file, which arrives as the initrd.
