// SPDX-License-Identifier: MIT OR Apache-2.0
//! A writer that keeps the names of the root's children apart.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::devicetree::{Property, TreeWriter, WriteError};

/// A writer that knows which names the root's children have.
pub(super) struct Emit {
    pub(super) writer: TreeWriter,
    names: Vec<String>,
}

impl Emit {
    pub(super) fn new() -> Self {
        Self { writer: TreeWriter::new(), names: Vec::new() }
    }

    pub(super) fn begin(&mut self, name: &str) {
        self.writer.begin_node(name);
    }

    pub(super) fn end(&mut self) {
        self.writer.end_node();
    }

    /// Returns a name that no child of the root was given yet.
    fn unique(&mut self, base: &str, address: Option<u64>) -> String {
        let full = |base: &str| match address {
            Some(address) => format!("{base}@{address:x}"),
            None => String::from(base),
        };
        let mut name = full(base);
        // Each try is another name, and there are as many tries as names, so one of them is free.
        for try_number in 2..self.names.len().saturating_add(3) {
            if !self.names.contains(&name) {
                break;
            }
            name = full(&format!("{base}-{try_number}"));
        }
        self.names.push(name.clone());
        name
    }

    /// Begins a child of the root under a name of its own and returns the name.
    pub(super) fn begin_unique(&mut self, base: &str, address: Option<u64>) -> String {
        let name = self.unique(base, address);
        self.begin(&name);
        name
    }

    /// Copies a property, if it is there.
    pub(super) fn copy(&mut self, property: Option<Property<'_>>) {
        if let Some(property) = property {
            self.writer.property(property.name, property.value);
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, WriteError> {
        self.writer.finish()
    }
}
