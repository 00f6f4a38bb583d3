// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest that touches all that is not its own: see its module in the library.
#![cfg_attr(target_os = "none", no_std, no_main)]

septum_guests::guest!(hostile);
