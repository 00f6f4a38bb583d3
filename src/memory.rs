// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical memory of the hypervisor.
