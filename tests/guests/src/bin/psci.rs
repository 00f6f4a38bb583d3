// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest that exercises the calls of PSCI: see its module in the library.
#![cfg_attr(target_os = "none", no_std, no_main)]

septum_guests::guest!(psci);
