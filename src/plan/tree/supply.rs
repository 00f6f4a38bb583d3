// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices need of others: clocks, resets, supplies. Fixed ones are copied, others must be the partition's too,
//! references that a device can do without are left out.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::devicetree::Node;
use crate::plan::error::Problem;

/// The most argument cells behind a phandle.
const MAX_ARGUMENTS: u32 = 16;

/// What a device does without the other end of a reference.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It does not work.
    Required,
    /// It works, if with less: the property is left out together with those of this prefix.
    Optional(&'static str),
}

/// A property that refers to other nodes.
struct Reference {
    name: &'static str,
    /// The supplier's property with the number of argument cells; "" for none.
    cells: &'static str,
    need: Need,
}

const fn required(name: &'static str, cells: &'static str) -> Reference {
    Reference { name, cells, need: Need::Required }
}

const fn optional(name: &'static str, cells: &'static str, with: &'static str) -> Reference {
    Reference { name, cells, need: Need::Optional(with) }
}

const REFERENCES: [Reference; 18] = [
    required("clocks", "#clock-cells"),
    required("resets", "#reset-cells"),
    required("power-domains", "#power-domain-cells"),
    required("phys", "#phy-cells"),
    required("phy-handle", ""),
    required("memory-region", ""),
    required("mboxes", "#mbox-cells"),
    required("io-channels", "#io-channel-cells"),
    required("pwms", "#pwm-cells"),
    optional("assigned-clocks", "#clock-cells", "assigned-clock"),
    optional("assigned-clock-parents", "#clock-cells", "assigned-clock"),
    optional("dmas", "#dma-cells", "dma-names"),
    optional("interconnects", "#interconnect-cells", "interconnect"),
    optional("interrupt-affinity", "", "interrupt-affinity"),
    optional("iommus", "#iommu-cells", "iommus"),
    optional("msi-parent", "#msi-cells", "msi-parent"),
    optional("nvmem-cells", "#nvmem-cell-cells", "nvmem-cell"),
    optional("operating-points-v2", "", "operating-points"),
];

/// Maps to other nodes that only a bus needs; never copied.
const DROPPED: [&str; 5] = ["iommu-map", "iommu-map-mask", "msi-map", "msi-map-mask", "gpio-ranges"];

/// Tells what a property refers to, if it is known to refer to anything.
fn reference(name: &str) -> Option<Reference> {
    if let Some(known) = REFERENCES.iter().find(|known| known.name == name) {
        return Some(Reference { ..*known });
    }
    let is_pinctrl =
        name.strip_prefix("pinctrl-").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    if is_pinctrl {
        return Some(optional("pinctrl", "", "pinctrl-"));
    }
    let is_gpio = ["gpios", "gpio"]
        .iter()
        .any(|end| name == *end || name.strip_suffix(end).is_some_and(|rest| rest.ends_with('-')));
    if is_gpio && !name.ends_with("nr-gpios") {
        return Some(required("gpios", "#gpio-cells"));
    }
    name.ends_with("-supply").then(|| required("supply", ""))
}

/// Devices with what must be copied along and what must be left out.
pub(super) struct Closure<'a> {
    /// The devices that the partition was given.
    given: Vec<Node<'a>>,
    /// Fixed suppliers to copy.
    pub(super) suppliers: Vec<Node<'a>>,
    /// Prefixes of properties to leave out of a node.
    left_out: Vec<(Node<'a>, String)>,
}

impl<'a> Closure<'a> {
    /// Finds all that devices need.
    pub(super) fn of(given: &[Node<'a>], partition: &str) -> Result<Self, Vec<Problem>> {
        let mut closure = Self { given: given.to_vec(), suppliers: Vec::new(), left_out: Vec::new() };
        let mut problems = Vec::new();
        for device in given {
            for node in device.subtree().filter(|node| node.is_enabled()) {
                closure.add(*device, node, partition, &mut problems);
            }
        }
        // Suppliers of suppliers: the list grows while it is walked, by each node of the tree once at most.
        let mut next = 0;
        while let Some(node) = closure.suppliers.get(next).copied() {
            closure.add(node, node, partition, &mut problems);
            next = next.saturating_add(1);
        }
        if problems.is_empty() { Ok(closure) } else { Err(problems) }
    }

    /// Tells whether a property of a node is left out.
    pub(super) fn leaves_out(&self, node: Node<'_>, property: &str) -> bool {
        DROPPED.contains(&property)
            || self.left_out.iter().any(|(of, prefix)| *of == node && property.starts_with(prefix.as_str()))
    }

    /// Looks at the references of one node.
    fn add(&mut self, device: Node<'a>, node: Node<'a>, partition: &str, problems: &mut Vec<Problem>) {
        for property in node.properties() {
            let Some(reference) = reference(property.name) else {
                continue;
            };
            let Err(supplier) = self.follow(node, property.name, &reference) else {
                continue;
            };
            match reference.need {
                Need::Optional(prefix) => {
                    self.left_out.push((node, prefix.to_string()));
                    self.left_out.push((node, property.name.to_string()));
                }
                Need::Required => problems.push(Problem::SupplierMissing {
                    partition: partition.to_string(),
                    device: device.path(),
                    property: property.name.to_string(),
                    supplier,
                }),
            }
        }
    }

    /// Follows each phandle of a property; the error names the first supplier that is missing.
    fn follow(&mut self, node: Node<'a>, name: &str, reference: &Reference) -> Result<(), String> {
        let Some(property) = node.property(name) else {
            return Ok(());
        };
        let mut cells = property.cells();
        while let Some(phandle) = cells.next() {
            // A hole in the list.
            if phandle == 0 || phandle == u32::MAX {
                continue;
            }
            let supplier = node.tree().by_phandle(phandle).ok_or_else(|| format!("phandle {phandle:#x}"))?;
            let count = match reference.cells {
                "" => 0,
                name => supplier.property(name).and_then(|cells| cells.as_u32()).unwrap_or(0).min(MAX_ARGUMENTS),
            };
            for _ in 0..count {
                cells.next();
            }
            let is_own =
                self.given.iter().any(|given| supplier == *given || supplier.ancestors().any(|above| above == *given));
            if is_own || self.suppliers.contains(&supplier) {
                continue;
            }
            if !is_fixed(supplier) {
                return Err(supplier.path());
            }
            self.suppliers.push(supplier);
        }
        Ok(())
    }
}

/// Tells whether a supplier is only a description: nothing has to be driven for it.
fn is_fixed(node: Node<'_>) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|name| node.is_compatible(name));
    let is_switched = ["gpio", "gpios", "enable-gpios"].iter().any(|name| node.property(name).is_some());
    node.is_enabled() && is_one_of(&["fixed-clock", "fixed-factor-clock", "regulator-fixed"]) && !is_switched
}
