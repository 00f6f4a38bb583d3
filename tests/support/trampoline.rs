// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small programs that stand between QEMU's loader and `septum.img`: they move it elsewhere, or spoil what it is handed.

use std::path::PathBuf;

use septum_tool::paths;

/// Bytes of an arm64 Image header.
const HEADER_SIZE: usize = 64;

/// What a trampoline does to x0, the device tree, before it jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// Nothing: x0 is as the loader passed it.
    Keep,
    /// x0 holds this instead.
    Replace(u64),
    /// The 32-bit word at this offset of the tree is overwritten.
    Damage {
        /// In bytes, a multiple of 4, below 16 KiB.
        offset: u32,
        /// The word, as the tree would store it: big-endian.
        word: u32,
    },
}

/// Makes a program that is loaded as an arm64 Image, with x0 as `handover` says and x1 to x3 zero, and jumps to `target`.
///
/// # Panics
/// It cannot be written.
pub fn make(target: u64, handover: Handover) -> PathBuf {
    let image = assemble(target, handover);
    let path = paths::output().unwrap().join("tests").join(format!("trampoline-{target:x}-{handover:x?}.img"));
    paths::write_whole(&path, &image).unwrap();
    path
}

fn assemble(target: u64, handover: Handover) -> Vec<u8> {
    // Where the first literal is, in bytes from the code's start.
    const LITERALS: u32 = 0x20;
    let load = |register: u32, literal: u32, at: u32| 0x5800_0000 | ((literal - at) / 4) << 5 | register;
    let mut code = vec![load(16, LITERALS, 0)]; // ldr x16, target
    let mut second = 0;
    match handover {
        Handover::Keep => {}
        Handover::Replace(value) => {
            second = value;
            code.push(load(0, LITERALS + 8, 4)); // ldr x0, second
        }
        Handover::Damage { offset, word } => {
            second = u64::from(word.swap_bytes());
            code.push(load(1, LITERALS + 8, 4)); // ldr x1, second
            code.push(0xb900_0001 | (offset / 4) << 10); // str w1, [x0, #offset]
            code.push(0xd503_3f9f); // dsb sy
            code.push(0xaa1f_03e1); // mov x1, xzr
        }
    }
    code.push(0xd61f_0200); // br x16

    let mut image = vec![0; HEADER_SIZE];
    image[0..4].copy_from_slice(&(0x1400_0000_u32 | (HEADER_SIZE as u32 / 4)).to_le_bytes()); // b code
    image[16..24].copy_from_slice(&0x1000_u64.to_le_bytes()); // image_size
    image[24..32].copy_from_slice(&0xa_u64.to_le_bytes()); // flags: anywhere, 4 KiB pages, little-endian
    image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    for word in &code {
        image.extend(word.to_le_bytes());
    }
    image.resize(HEADER_SIZE + LITERALS as usize, 0);
    image.extend(target.to_le_bytes());
    image.extend(second.to_le_bytes());
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_loaded_from_behind_the_code() {
        let image = assemble(0x1234_5678_9abc_def0, Handover::Damage { offset: 4, word: 0x0102_0304 });
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        // Clang's own encodings of: ldr x16, .+32; ldr x1, .+36; str w1, [x0, #4]
        assert_eq!([word(64), word(68), word(72)], [0x5800_0110, 0x5800_0121, 0xb900_0401]);
        assert_eq!(image[96..104], 0x1234_5678_9abc_def0_u64.to_le_bytes());
        assert_eq!(image[104..108], [1, 2, 3, 4]);
        assert_eq!(image.len() % 4, 0);
    }
}
