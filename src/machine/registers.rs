// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the real ID register behind a trapped read: op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7.

macro_rules! id_registers {
    ($crm:expr, $op2:expr; $($m:literal)*) => {
        match ($crm, $op2) {
            $(
                ($m, 0) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_0")),
                ($m, 1) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_1")),
                ($m, 2) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_2")),
                ($m, 3) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_3")),
                ($m, 4) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_4")),
                ($m, 5) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_5")),
                ($m, 6) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_6")),
                ($m, 7) => $crate::read_sysreg!(concat!("s3_0_c0_c", stringify!($m), "_7")),
            )*
            _ => 0,
        }
    };
}

/// Returns the value of the ID register; unallocated ones of the space read as zero.
pub fn id_register(crm: u8, op2: u8) -> u64 {
    id_registers!(crm, op2; 1 2 3 4 5 6 7)
}
