// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which devices are bus masters: with no IOMMU between, such a device reaches all memory. The binding does not say so
//! of most; a device that is wrongly taken for one costs its partition a word in the configuration, one that is wrongly
//! taken for none costs everybody's isolation.

use crate::devicetree::{Node, Property};

use super::types::DmaQuiesce;

/// Properties that only bus masters have.
const PROPERTIES: [&str; 6] = ["iommus", "iommu-map", "dma-coherent", "dma-noncoherent", "dma-ranges", "interconnects"];

/// Generic names of nodes (Devicetree Specification, section 2.2.2) whose devices move data on their own.
const NAMES: [&str; 34] = [
    "ahci",
    "camera",
    "codec",
    "crypto",
    "display-controller",
    "dma",
    "dma-controller",
    "dma-router",
    "dsp",
    "ethernet",
    "fw-cfg",
    "gpu",
    "hdmi",
    "isp",
    "jpeg",
    "mmc",
    "nand",
    "nand-controller",
    "nvme",
    "pci",
    "pcie",
    "remoteproc",
    "sata",
    "scsi",
    "sdhci",
    "sdio",
    "ufs",
    "usb",
    "usbh",
    "video-codec",
    "video-decoder",
    "video-encoder",
    "vpu",
    "xhci",
];

/// Parts of `compatible` strings, the vendor left out.
const COMPATIBLES: [&str; 47] = [
    "virtio,mmio",
    "fw-cfg-mmio",
    "dwc2",
    "dwc3",
    "xhci",
    "ehci",
    "ohci",
    "uhci",
    "chipidea",
    "musb",
    "dwc-usb",
    "usb-otg",
    "sdhci",
    "dw-mshc",
    "mmc",
    "sdhost",
    "emmc",
    "usdhc",
    "esdhc",
    "ufshc",
    "ahci",
    "sata",
    ",gem",
    "-gem",
    "macb",
    "dwmac",
    "dwc-qos",
    "-fec",
    "enet",
    "genet",
    "gmac",
    "xgmac",
    "ethernet",
    "smsc,lan",
    "nvme",
    "pcie",
    "pci-host",
    "pl080",
    "pl081",
    "pl330",
    "-dma",
    "dma-",
    "mali",
    "-gpu",
    "-vpu",
    "pl111",
    "pl110",
];

/// Returns why a node alone is taken for a bus master, or `None` when it is not.
pub(super) fn is_bus_master(node: Node<'_>) -> Option<&'static str> {
    let by_property = PROPERTIES.into_iter().find(|name| node.parent().is_some() && node.property(name).is_some());
    let by_name = || NAMES.into_iter().find(|name| node.base_name() == *name);
    let by_compatible =
        || COMPATIBLES.into_iter().find(|part| node.compatible().any(|compatible| compatible.contains(part)));
    let is_memory = node.property("device_type").and_then(Property::as_str) == Some("memory");
    let found = by_property.or_else(by_name).or_else(by_compatible);
    found.filter(|_| !is_memory)
}

/// Returns how a device is stopped from mastering the bus.
pub(super) fn quiesce(node: Node<'_>) -> DmaQuiesce {
    if node.is_compatible("virtio,mmio") { DmaQuiesce::VirtioMmio } else { DmaQuiesce::Unknown }
}
