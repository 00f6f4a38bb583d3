// SPDX-License-Identifier: MIT OR Apache-2.0
//! First processes for Linux: one whose first instruction reads the counter, for how long the machine took to get there,
//! and one that sleeps between marks in QEMU's exception log.

use std::io::Write;

use anyhow::Result;
use cpio::newc::{Builder, ModeFileType, trailer};

/// Where the program is linked.
const BASE: u64 = 0x1_0000;
/// Bytes of an ELF header and one program header.
const HEADERS: usize = 64 + 56;

/// Prints `BENCH init ` and CNTVCT_EL0 in decimal, and switches the machine off.
const CODE: [u32; 30] = [
    0xd53b_e053, //     mrs  x19, cntvct_el0
    0xd280_0020, //     mov  x0, #1
    0x1000_0381, //     adr  x1, text
    0xd280_0162, //     mov  x2, #11
    0xd280_0808, //     mov  x8, #64            write
    0xd400_0001, //     svc  #0
    0xd100_83ff, //     sub  sp, sp, #32
    0x9100_7fe1, //     add  x1, sp, #31
    0x5280_0142, //     mov  w2, #'\n'
    0x3900_0022, //     strb w2, [x1]
    0xd280_0143, //     mov  x3, #10
    0x9ac3_0a64, // 1:  udiv x4, x19, x3
    0x9b03_cc85, //     msub x5, x4, x3, x19
    0x1100_c0a5, //     add  w5, w5, #'0'
    0x381f_fc25, //     strb w5, [x1, #-1]!
    0xaa04_03f3, //     mov  x19, x4
    0xb5ff_ff73, //     cbnz x19, 1b
    0x9100_83e2, //     add  x2, sp, #32
    0xcb01_0042, //     sub  x2, x2, x1
    0xd280_0020, //     mov  x0, #1
    0xd400_0001, //     svc  #0                 write
    0x1800_00c0, //     ldr  w0, magic
    0x1800_00c1, //     ldr  w1, magic + 4
    0x1800_00c2, //     ldr  w2, magic + 8
    0xd280_11c8, //     mov  x8, #142           reboot
    0xd400_0001, //     svc  #0
    0x1400_0000, //     b    .
    0xfee1_dead, // magic: LINUX_REBOOT_MAGIC1, MAGIC2, CMD_POWER_OFF
    0x2812_1969,
    0x4321_fedc,
];
const TEXT: &[u8; 11] = b"BENCH init ";

/// Sleeps two seconds, leaves a mark, sleeps one, leaves another, prints, leaves the last and sleeps on. The numbers of its
/// SVCs are the marks; Linux does not look at them, and does getpid.
const SLEEPER: [u32; 35] = [
    0xd280_0ca8, //     mov  x8, #101           nanosleep
    0x1000_02e0, //     adr  x0, settle
    0xd280_0001, //     mov  x1, #0
    0xd400_0001, //     svc  #0
    0xd280_1588, //     mov  x8, #172           getpid
    0xd417_c021, //     svc  #0xbe01
    0xd280_0ca8, //     mov  x8, #101
    0x1000_02a0, //     adr  x0, second
    0xd280_0001, //     mov  x1, #0
    0xd400_0001, //     svc  #0
    0xd280_1588, //     mov  x8, #172
    0xd417_c041, //     svc  #0xbe02
    0xd280_0020, //     mov  x0, #1
    0x1000_0261, //     adr  x1, text
    0xd280_0162, //     mov  x2, #11
    0xd280_0808, //     mov  x8, #64            write
    0xd400_0001, //     svc  #0
    0xd280_1588, //     mov  x8, #172
    0xd417_c061, //     svc  #0xbe03
    0xd280_0ca8, // 1:  mov  x8, #101
    0x1000_0080, //     adr  x0, settle
    0xd280_0001, //     mov  x1, #0
    0xd400_0001, //     svc  #0
    0x17ff_fffc, //     b    1b
    2,
    0,
    0,
    0, // settle: seconds and nanoseconds
    1,
    0,
    0,
    0,           // second
    0x4e45_4353, // text: "SCENE OVER\n"
    0x564f_2045,
    0x000a_5245,
];

/// Packs an initramfs whose /init says when it began.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn initramfs() -> Result<Vec<u8>> {
    pack(&program(&CODE, TEXT))
}

/// Packs an initramfs whose /init sleeps.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn sleeper() -> Result<Vec<u8>> {
    pack(&program(&SLEEPER, b""))
}

fn pack(program: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let folder = Builder::new("dev").mode(0o755).set_mode_file_type(ModeFileType::Directory).ino(1).nlink(2);
    folder.write(&mut archive, 0).finish()?;
    // The kernel opens it for /init's first three descriptors.
    let console = Builder::new("dev/console").mode(0o600).set_mode_file_type(ModeFileType::Char).ino(2);
    console.rdev_major(5).rdev_minor(1).write(&mut archive, 0).finish()?;
    let init = Builder::new("init").mode(0o755).set_mode_file_type(ModeFileType::Regular).ino(3);
    let mut writer = init.write(&mut archive, u32::try_from(program.len())?);
    writer.write_all(program)?;
    writer.finish()?;
    trailer(&mut archive)?;
    Ok(archive)
}

/// Returns a static AArch64 ELF file of one segment.
fn program(code: &[u32], text: &[u8]) -> Vec<u8> {
    let size = (HEADERS + code.len() * 4 + text.len()) as u64;
    let mut file = Vec::from(*b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    for half in [2_u16, 183] {
        file.extend(half.to_le_bytes()); // ET_EXEC, EM_AARCH64
    }
    file.extend(1_u32.to_le_bytes());
    for long in [BASE + HEADERS as u64, 64, 0] {
        file.extend(long.to_le_bytes()); // entry, program headers, section headers
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [1_u32, 5] {
        file.extend(word.to_le_bytes()); // PT_LOAD, readable and executable
    }
    for long in [0, BASE, BASE, size, size, 0x1_0000] {
        file.extend(long.to_le_bytes());
    }
    code.iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(text);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSegment};

    #[test]
    fn the_program_is_a_static_elf_file_whose_entry_is_its_code() {
        let bytes = program(&CODE, TEXT);
        let file = object::File::parse(&*bytes).unwrap();
        assert_eq!(file.architecture(), object::Architecture::Aarch64);
        let segment = file.segments().next().unwrap();
        assert_eq!(segment.data_range(BASE, bytes.len() as u64).unwrap(), Some(&bytes[..]));
        assert_eq!(bytes[(file.entry() - BASE) as usize..][..4], CODE[0].to_le_bytes());
        // adr x1, text, from the third word.
        let text = (file.entry() - BASE) as usize + 8 + (0x1000_0381 >> 5 & 0x7_ffff) * 4;
        assert_eq!(&bytes[text..], TEXT);
    }
}
