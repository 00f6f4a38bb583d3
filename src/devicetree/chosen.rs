// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the boot loader says in /chosen (Devicetree Specification, section 3.6).

use super::DeviceTree;
use super::node::{Node, Property};
use crate::addr::{Pa, PaRange};

impl DeviceTree {
    /// Returns /chosen.
    pub fn chosen(&self) -> Option<Node<'_>> {
        self.root().child("chosen")
    }

    /// Returns the console's node and the options behind the colon ("115200n8"), "" when there are none.
    pub fn stdout(&self) -> Option<(Node<'_>, &str)> {
        let chosen = self.chosen()?;
        let property = chosen.property("stdout-path").or_else(|| chosen.property("linux,stdout-path"))?;
        let text = property.as_str()?;
        let (reference, options) = text.split_once(':').unwrap_or((text, ""));
        Some((self.find(reference).ok()?, options))
    }

    /// Returns where the boot loader put the initrd.
    pub fn initrd(&self) -> Option<PaRange> {
        let chosen = self.chosen()?;
        let address = |name| chosen.property(name).and_then(Property::as_u64).map(Pa::new);
        PaRange::between(address("linux,initrd-start")?, address("linux,initrd-end")?)
    }
}
