// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine as its device tree describes it: all that a guest knows of where it runs.

use crate::list::List;
use crate::options::Options;
use crate::tree::{Node, Tree, cells};

/// How many CPUs a guest uses at most; guest.ld says the same.
pub const MAX_CPUS: usize = 8;

/// A range of addresses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Region {
    /// The first address.
    pub base: u64,
    /// The size in bytes.
    pub size: u64,
}

impl Region {
    /// Returns the address behind the last.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.size)
    }

    /// Tells whether a byte of `self` is in `other`.
    pub fn overlaps(&self, other: &Region) -> bool {
        self.size != 0 && other.size != 0 && self.base < other.end() && other.base < self.end()
    }

    /// Returns the pages of 4 KiB that hold the range.
    pub fn pages(&self) -> Region {
        let base = self.base & !0xfff;
        Region { base, size: (self.end().saturating_add(0xfff) & !0xfff).saturating_sub(base) }
    }
}

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conduit {
    /// There is no `/psci`: never call.
    None,
    /// By HVC.
    Hvc,
    /// By SMC.
    Smc,
}

/// The interrupt controller.
#[derive(Clone, Copy, Debug)]
pub enum Gic {
    /// None that the guests know.
    None,
    /// GICv2.
    V2 {
        /// Its distributor.
        distributor: Region,
        /// Its CPU interface.
        cpu_interface: Region,
    },
    /// GICv3.
    V3 {
        /// Its distributor.
        distributor: Region,
        /// Its redistributors, of all CPUs.
        redistributors: Region,
    },
}

/// A shared interrupt that a device of the tree raises.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spi {
    /// Its number.
    pub intid: u32,
    /// Whether the device is a virtio-mmio slot: quiet as long as no driver starts it.
    pub is_virtio: bool,
}

/// A PL011.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uart {
    /// Its registers; the size is 0 when there is none.
    pub registers: Region,
    /// Its interrupt, 0 when it has none.
    pub intid: u32,
}

/// What the tree says.
#[derive(Clone, Copy)]
pub struct Machine {
    /// RAM.
    pub memory: List<Region, 8>,
    /// MPIDR affinity of each CPU, in the order of the tree.
    pub cpus: List<u64, MAX_CPUS>,
    /// How firmware is called.
    pub conduit: Conduit,
    /// The interrupt controller.
    pub gic: Gic,
    /// The console.
    pub uart: Uart,
    /// Physical timer's PPI as INTID, non-secure.
    pub physical_timer: u32,
    /// Virtual timer's PPI as INTID.
    pub virtual_timer: u32,
    /// The PL031's registers; the size is 0 when there is none.
    pub rtc: Region,
    /// The PL031's interrupt.
    pub rtc_intid: u32,
    /// Every register range and bus window of the tree.
    pub devices: List<Region, 128>,
    /// Shared interrupts of devices, by number.
    pub spis: List<Spi, 96>,
    /// Boot arguments.
    pub bootargs: &'static str,
    /// The tree itself.
    pub blob: Region,
    /// The initrd; the size is 0 when there is none.
    pub initrd: Region,
    /// This guest's image with its stacks.
    pub image: Region,
}

impl Machine {
    /// Knows nothing yet.
    pub const EMPTY: Self = Self {
        memory: List::new(Region { base: 0, size: 0 }),
        cpus: List::new(0),
        conduit: Conduit::None,
        gic: Gic::None,
        uart: Uart { registers: Region { base: 0, size: 0 }, intid: 0 },
        physical_timer: 0,
        virtual_timer: 0,
        rtc: Region { base: 0, size: 0 },
        rtc_intid: 0,
        devices: List::new(Region { base: 0, size: 0 }),
        spis: List::new(Spi { intid: 0, is_virtio: false }),
        bootargs: "",
        blob: Region { base: 0, size: 0 },
        initrd: Region { base: 0, size: 0 },
        image: Region { base: 0, size: 0 },
    };

    /// Reads `tree`, which lies at `blob`; `image` is where the guest runs.
    pub fn read(&mut self, tree: &Tree<'static>, blob: Region, image: Region) {
        self.blob = blob;
        self.image = image;
        let mut console = "";
        tree.walk(|node| {
            if node.is_at("/chosen") {
                self.bootargs = node.text("bootargs").unwrap_or("");
                console = node.text("stdout-path").unwrap_or("");
                let from = node.number("linux,initrd-start").unwrap_or(0);
                let to = node.number("linux,initrd-end").unwrap_or(0);
                self.initrd = Region { base: from, size: to.saturating_sub(from) };
            } else if node.is_enabled() {
                self.read_node(node);
            }
        });
        tree.at_path(console, |node| {
            if node.is_compatible(&["arm,pl011"]) {
                self.uart = uart(node);
            }
        });
        self.spis.sort_unstable_by_key(|spi| spi.intid);
    }

    /// Returns the options of the guest.
    pub fn options(&self) -> Options<'static> {
        Options(self.bootargs)
    }

    /// Returns the largest free RAM of at most `size` bytes behind the image, in whole pages: neither image, tree nor
    /// initrd is in it.
    pub fn scratch(&self, size: u64) -> Region {
        let taken = [self.image.pages(), self.blob.pages(), self.initrd.pages()];
        let starts = self.memory.iter().map(|ram| ram.base).chain(taken.iter().map(Region::end));
        let mut best = Region::default();
        for base in starts {
            let Some(ram) = self.memory.iter().find(|ram| ram.base <= base && base < ram.end()) else {
                continue;
            };
            let end = taken
                .iter()
                .filter(|used| used.base >= base && used.size != 0)
                .map(|used| used.base)
                .fold(ram.end(), u64::min);
            let free = Region { base, size: (end - base).min(size) & !0xfff };
            if free.size > best.size && !taken.iter().any(|used| used.overlaps(&free)) {
                best = free;
            }
        }
        best
    }

    /// Tells whether the guest has been given something in the page at `address`.
    pub fn owns_page(&self, address: u64) -> bool {
        let page = Region { base: address & !0xfff, size: 0x1000 };
        self.memory.iter().chain(self.devices.iter()).any(|own| own.pages().overlaps(&page))
    }

    fn read_node(&mut self, node: &Node<'_, 'static>) {
        let region = |index| node.reg(index).map(|(base, size)| Region { base, size });
        match node.text("device_type") {
            Some("memory") => {
                (0..8).map_while(region).for_each(|ram| self.memory.push(ram));
                return;
            }
            Some("cpu") => {
                if let Some(value) = node.property("reg") {
                    self.cpus.push(cells(value, 0, value.len() / 4).unwrap_or(0));
                }
                return;
            }
            Some("pci") => self.read_windows(node),
            _ => {}
        }
        // What is below /cpus or /reserved-memory has no registers.
        if node.parent() == "reserved-memory" || node.parent().starts_with("cpu") {
            return;
        }
        (0..8)
            .map_while(region)
            .filter(|registers| registers.size != 0)
            .for_each(|registers| self.devices.push(registers));
        self.read_interrupts(node);
        self.read_known(node);
    }

    /// Takes the windows of a PCI bridge, whose children have addresses of three cells, for device addresses.
    fn read_windows(&mut self, node: &Node<'_, 'static>) {
        let Some(ranges) = node.property("ranges") else {
            return;
        };
        for index in 0..ranges.len() / 28 {
            if let (Some(base), Some(size)) = (cells(ranges, index * 7 + 3, 2), cells(ranges, index * 7 + 5, 2)) {
                self.devices.push(Region { base, size });
            }
        }
    }

    fn read_interrupts(&mut self, node: &Node<'_, 'static>) {
        let is_virtio = node.is_compatible(&["virtio,mmio"]);
        for (intid, _) in (0..8).map_while(|index| node.interrupt(index)) {
            if intid >= 32 && !self.spis.iter().any(|spi| spi.intid == intid) {
                self.spis.push(Spi { intid, is_virtio });
            }
        }
    }

    fn read_known(&mut self, node: &Node<'_, 'static>) {
        let region = |index| node.reg(index).map(|(base, size)| Region { base, size }).unwrap_or_default();
        if node.is_compatible(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]) {
            self.conduit = match node.text("method") {
                Some("hvc") => Conduit::Hvc,
                Some("smc") => Conduit::Smc,
                _ => Conduit::None,
            };
        } else if node.is_compatible(&["arm,gic-v3"]) {
            self.gic = Gic::V3 { distributor: region(0), redistributors: region(1) };
        } else if node.is_compatible(&["arm,cortex-a15-gic", "arm,gic-400", "arm,cortex-a9-gic"]) {
            self.gic = Gic::V2 { distributor: region(0), cpu_interface: region(1) };
        } else if node.is_compatible(&["arm,armv8-timer"]) {
            self.physical_timer = node.interrupt(1).map_or(0, |interrupt| interrupt.0);
            self.virtual_timer = node.interrupt(2).map_or(0, |interrupt| interrupt.0);
        } else if node.is_compatible(&["arm,pl031"]) {
            self.rtc = region(0);
            self.rtc_intid = node.interrupt(0).map_or(0, |interrupt| interrupt.0);
        } else if node.is_compatible(&["arm,pl011"]) && self.uart.registers.size == 0 {
            self.uart = uart(node);
        }
    }
}

fn uart(node: &Node<'_, '_>) -> Uart {
    let (base, size) = node.reg(0).unwrap_or_default();
    Uart { registers: Region { base, size }, intid: node.interrupt(0).map_or(0, |interrupt| interrupt.0) }
}

#[cfg(test)]
mod tests {
    use super::{Machine, Region};

    fn machine() -> Machine {
        let mut machine = Machine::EMPTY;
        machine.memory.push(Region { base: 0x4000_0000, size: 0x100_0000 });
        machine.image = Region { base: 0x4020_0000, size: 0x8_0800 };
        machine.blob = Region { base: 0x4080_0000, size: 0x100 };
        machine
    }

    #[test]
    fn scratch_memory_avoids_image_and_tree() {
        let free = machine().scratch(u64::MAX);
        assert_eq!(free, Region { base: 0x4080_1000, size: 0x7f_f000 });
        assert_eq!(machine().scratch(0x1000).size, 0x1000);
    }

    #[test]
    fn a_page_is_owned_when_one_byte_is() {
        let mut machine = machine();
        machine.devices.push(Region { base: 0xa00_0200, size: 0x200 });
        assert!(machine.owns_page(0xa00_0000));
        assert!(machine.owns_page(0x40ff_ffff));
        assert!(!machine.owns_page(0x4100_0000));
        assert!(!machine.owns_page(0xa00_1000));
    }
}
