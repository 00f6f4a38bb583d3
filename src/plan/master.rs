// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which devices are bus masters: with no IOMMU between, such a device reaches all memory. The binding does not say so
//! of most; a device that is wrongly taken for one costs its partition a word in the configuration, one that is wrongly
//! taken for none costs everybody's isolation.

use crate::devicetree::{Node, Property};

use super::types::DmaQuiesce;

/// Properties that only bus masters have.
const PROPERTIES: [&str; 6] = ["iommus", "iommu-map", "dma-coherent", "dma-noncoherent", "dma-ranges", "interconnects"];

/// Generic names of nodes (Devicetree Specification, section 2.2.2) whose devices move data on their own.
const NAMES: [&str; 43] = [
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
    "etr",
    "fw-cfg",
    "gpu",
    "hdmi",
    "hvs",
    "iommu",
    "isp",
    "jpeg",
    "mailbox",
    "mmc",
    "nand",
    "nand-controller",
    "npu",
    "nvme",
    "pci",
    "pcie",
    "qspi",
    "remoteproc",
    "sata",
    "scsi",
    "sdhci",
    "sdio",
    "smmu",
    "ufs",
    "usb",
    "usbh",
    "v3d",
    "video-codec",
    "video-decoder",
    "video-encoder",
    "vop",
    "vpu",
    "xhci",
];

/// Parts of `compatible` strings, the vendor left out. A mailbox to firmware that moves data where it is told is as good as
/// a master, and so is an IOMMU, which decides where others' accesses go.
const COMPATIBLES: [&str; 65] = [
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
    "sdhost",
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
    "mali",
    "-gpu",
    "-vpu",
    "pl111",
    "pl110",
    "dma",
    "mmc",
    "mbox",
    "mailbox",
    "coresight-tmc",
    "coresight-etr",
    "smmu",
    "iommu",
    "rproc",
    "remoteproc",
    "qspi",
    "lcdif",
    "-vop",
    "-hvs",
    "-txp",
    "v3d",
    "unicam",
    "-isp",
    "-csi",
    "-npu",
    "vivante",
    "vchiq",
];

/// Returns why a node alone is taken for a bus master, or `None` when it is not.
pub(super) fn is_bus_master(node: Node<'_>) -> Option<&'static str> {
    let by_property = PROPERTIES.into_iter().find(|name| node.parent().is_some() && node.property(name).is_some());
    let by_name = || NAMES.into_iter().find(|name| node.base_name() == *name);
    let by_compatible = || node.compatible().find_map(by_compatible);
    let is_memory = node.property("device_type").and_then(Property::as_str) == Some("memory");
    let found = by_property.or_else(by_name).or_else(by_compatible);
    found.filter(|_| !is_memory)
}

/// Returns the part of a `compatible` string that bus masters have.
fn by_compatible(compatible: &str) -> Option<&'static str> {
    COMPATIBLES.into_iter().find(|part| compatible.contains(part))
}

/// Returns how a device is stopped from mastering the bus.
pub(super) fn quiesce(node: Node<'_>) -> DmaQuiesce {
    if node.is_compatible("virtio,mmio") { DmaQuiesce::VirtioMmio } else { DmaQuiesce::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_of_the_boards_we_know_are_recognised() {
        let masters = [
            "virtio,mmio",
            "qemu,fw-cfg-mmio",
            "brcm,bcm2835-mbox",
            "brcm,bcm2835-dma",
            "brcm,bcm2835-sdhost",
            "brcm,bcm2711-emmc2",
            "brcm,bcm2711-genet-v5",
            "brcm,bcm2711-hvs",
            "brcm,2711-v3d",
            "brcm,bcm2835-unicam",
            "xlnx,zynqmp-gem",
            "xlnx,zynqmp-dpdma",
            "xlnx,zynqmp-qspi-1.0",
            "xlnx,zynqmp-r5-remoteproc",
            "xlnx,zynqmp-ipi-mailbox",
            "arasan,sdhci-8.9a",
            "fsl,imx8mm-sdma",
            "fsl,imx8mp-lcdif",
            "fsl,imx8mq-csi",
            "nxp,imx8mp-dwmac-eqos",
            "rockchip,rk3399-vop-big",
            "arm,smmu-v3",
            "arm,coresight-tmc",
            "arm,mali-t860",
        ];
        for compatible in masters {
            assert!(by_compatible(compatible).is_some(), "{compatible}");
        }
    }

    #[test]
    fn plain_devices_are_none() {
        let plain = [
            "arm,pl011",
            "arm,pl031",
            "arm,pl061",
            "arm,primecell",
            "ns16550a",
            "snps,dw-apb-uart",
            "brcm,bcm2835-aux-uart",
            "brcm,bcm2711-gpio",
            "brcm,bcm2835-i2c",
            "brcm,bcm2835-spi",
            "brcm,bcm2835-pwm",
            "brcm,bcm2711-rng200",
            "cdns,uart-r1p12",
            "cdns,spi-r1p6",
            "cdns,i2c-r1p14",
            "cdns,ttc",
            "xlnx,zynqmp-gpio-1.0",
            "xlnx,zynqmp-rtc",
            "fsl,imx8mm-uart",
            "fsl,imx35-gpio",
            "fsl,imx8mm-wdt",
        ];
        for compatible in plain {
            assert_eq!(by_compatible(compatible), None, "{compatible}");
        }
    }
}
