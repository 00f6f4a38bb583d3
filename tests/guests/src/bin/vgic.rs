// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest that logs what an interrupt controller does: see its module in the library.
#![cfg_attr(target_os = "none", no_std, no_main)]

septum_guests::guest!(vgic);
