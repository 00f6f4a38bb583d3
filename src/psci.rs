// SPDX-License-Identifier: MIT OR Apache-2.0
//! PSCI and SMCCC as guests see them.
