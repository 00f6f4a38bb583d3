// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds a node by what a person writes: a path, an alias or a label.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::DeviceTree;
use super::node::{Node, Property};

/// The most names that an error suggests.
const MAX_SUGGESTIONS: usize = 3;
/// The longest name that is compared letter by letter, in bytes.
const MAX_COMPARED: usize = 128;

/// Why a reference names no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindError {
    /// Nothing has this path, alias or label.
    Unknown {
        /// The reference.
        reference: String,
        /// Paths, aliases and labels that look like it, nearest first.
        nearest: Vec<String>,
    },
    /// The path leaves out a unit address and fits more than one node.
    Ambiguous {
        /// The reference.
        reference: String,
        /// Paths of nodes that fit.
        candidates: Vec<String>,
    },
    /// The alias or label leads to a path that does not exist.
    Dangling {
        /// The reference.
        reference: String,
        /// Where it leads.
        target: String,
    },
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reference, list, word) = match self {
            Self::Unknown { reference, nearest } => {
                write!(f, "`{reference}` is no path, alias or label of the device tree")?;
                (reference, nearest, "did you mean")
            }
            Self::Ambiguous { reference, candidates } => {
                write!(f, "`{reference}` fits more than one node of the device tree")?;
                (reference, candidates, "give one of")
            }
            Self::Dangling { reference, target } => {
                return write!(f, "`{reference}` leads to `{target}`, which is not in the device tree");
            }
        };
        if !list.is_empty() && !reference.is_empty() {
            write!(f, "; {word} ")?;
            for (place, name) in list.iter().enumerate() {
                write!(f, "{}`{name}`", if place == 0 { "" } else { ", " })?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for FindError {}

/// Where a path leads.
enum Walk<'a> {
    Found(Node<'a>),
    Ambiguous(Vec<Node<'a>>),
    /// The deepest node that exists, and the name that it has no child of.
    Lost(Node<'a>, String),
}

impl DeviceTree {
    /// Returns the node at a path that begins with "/". A unit address may be left out where the name without it is
    /// unique among its siblings.
    pub fn node(&self, path: &str) -> Option<Node<'_>> {
        match self.walk(path) {
            Some(Walk::Found(node)) => Some(node),
            _ => None,
        }
    }

    /// Returns the node that a path, an alias of /aliases or a label of /__symbols__ names; an alias comes before a
    /// label.
    ///
    /// # Errors
    /// There is none, or more than one; the error holds names that come near.
    pub fn find(&self, reference: &str) -> Result<Node<'_>, FindError> {
        let lost = match self.walk(reference) {
            Some(Walk::Found(node)) => return Ok(node),
            Some(Walk::Ambiguous(nodes)) => {
                let candidates = nodes.into_iter().map(Node::path).collect();
                return Err(FindError::Ambiguous { reference: reference.into(), candidates });
            }
            Some(Walk::Lost(node, name)) => Some((node, name)),
            None => None,
        };
        let names = ["aliases", "__symbols__"].into_iter().filter_map(|name| self.root().child(name));
        if let Some(property) = names.into_iter().find_map(|node| node.property(reference)) {
            let target = property.as_str().unwrap_or_default();
            return self
                .node(target)
                .ok_or_else(|| FindError::Dangling { reference: reference.into(), target: target.into() });
        }
        Err(FindError::Unknown { reference: reference.into(), nearest: self.nearest(reference, lost) })
    }

    /// Follows a path as far as it goes; `None` when it is none.
    fn walk(&self, path: &str) -> Option<Walk<'_>> {
        let names = path.strip_prefix('/')?;
        let mut at = self.root();
        for name in names.split('/').filter(|_| !names.is_empty()) {
            let fitting = match at.child(name) {
                Some(child) => Vec::from([child]),
                None if name.contains('@') => Vec::new(),
                None => at.children().filter(|child| child.base_name() == name).collect(),
            };
            match fitting.as_slice() {
                [child] => at = *child,
                [] => return Some(Walk::Lost(at, name.to_string())),
                _ => return Some(Walk::Ambiguous(fitting)),
            }
        }
        Some(Walk::Found(at))
    }

    /// Returns names that come near to one that does not exist, nearest first.
    fn nearest(&self, reference: &str, lost: Option<(Node<'_>, String)>) -> Vec<String> {
        let mut near: Vec<(usize, String)> = Vec::new();
        // A node of that name elsewhere in the tree.
        let last = reference.rsplit('/').next().unwrap_or(reference);
        let elsewhere =
            self.nodes().filter(|node| !last.is_empty() && (node.name() == last || node.base_name() == last));
        near.extend(elsewhere.take(MAX_SUGGESTIONS).map(|node| (0, node.path())));
        match lost {
            Some((node, name)) => {
                for child in node.children() {
                    let distance = distance(&name, child.name()).or_else(|| distance(&name, child.base_name()));
                    near.extend(distance.map(|distance| (distance, child.path())));
                }
            }
            None => {
                for list in ["aliases", "__symbols__"].into_iter().filter_map(|name| self.root().child(name)) {
                    let names = list.properties().filter(|property| property.as_str().is_some());
                    let distances = names.filter_map(|Property { name, .. }| Some((distance(reference, name)?, name)));
                    near.extend(distances.map(|(distance, name)| (distance, name.to_string())));
                }
            }
        }
        crate::order::sort(&mut near);
        let mut nearest: Vec<String> = Vec::new();
        for (_, name) in near {
            if nearest.len() < MAX_SUGGESTIONS && !nearest.contains(&name) {
                nearest.push(name);
            }
        }
        nearest
    }
}

/// Returns how many letters must be added, removed or changed to come from one name to the other; `None` when that is
/// more than a third of them.
fn distance(from: &str, to: &str) -> Option<usize> {
    let limit = (from.len().max(to.len()) / 3).max(1);
    if from.len().max(to.len()) > MAX_COMPARED || from.len().abs_diff(to.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (place, letter) in from.bytes().enumerate() {
        let mut diagonal = place;
        let mut left = place.saturating_add(1);
        let mut next = Vec::with_capacity(row.len());
        next.push(left);
        for (above, other) in row.iter().skip(1).zip(to.bytes()) {
            let changed = diagonal.saturating_add(usize::from(letter != other));
            left = changed.min(left.saturating_add(1)).min(above.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().filter(|distance| *distance <= limit)
}
