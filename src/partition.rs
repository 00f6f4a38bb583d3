// SPDX-License-Identifier: MIT OR Apache-2.0
//! Life cycle of partitions and vCPUs.
