//! Size, type and machine of a domain that is there.

use roxmltree::Node;

use super::super::{DomainKind, DomainSpec};
use super::{Loss, elements};
use crate::host::definition;
use crate::host::xml::{attribute, child, number};
use crate::text::edit::Edits;

/// Size, type and machine; what was lost by it.
pub(super) fn hardware(
    domain: Node<'_, '_>,
    spec: &DomainSpec,
    other_machine: bool,
    edits: &mut Edits<'_>,
) -> Vec<Loss> {
    let DomainSpec {
        name: _,
        kind: wanted_kind,
        architecture: _,
        machine: wanted_machine,
        memory_mib,
        vcpus: wanted_vcpus,
        interfaces: _,
    } = spec;
    let mut losses = Vec::new();
    kind(domain, *wanted_kind, edits, &mut losses);
    if other_machine {
        machine(domain, wanted_machine, edits, &mut losses);
    }
    let cells_stay = vcpus(domain, *wanted_vcpus, edits, &mut losses);
    memory(domain, memory_mib.saturating_mul(1024), cells_stay, edits);
    losses
}

/// The CPU mode of one type may not exist under the other.
fn kind(domain: Node<'_, '_>, wanted: DomainKind, edits: &mut Edits<'_>, losses: &mut Vec<Loss>) {
    if attribute(domain, "type") == wanted.as_str() {
        return;
    }
    edits.set_attribute(domain, "type", wanted.as_str());
    let Some(cpu) = child(domain, "cpu") else {
        return;
    };
    let mode = attribute(cpu, "mode");
    let unfit = match wanted {
        DomainKind::Qemu => mode == "host-passthrough" || mode == "host-model",
        DomainKind::Kvm => mode == "maximum",
    };
    if unfit {
        edits.set_attribute(cpu, "mode", wanted.cpu_mode());
    }
    if mode == "host-model" && unfit {
        losses.push(Loss {
            what: "CPU mode",
            was: mode,
        });
    }
}

/// Devices of another machine are on other buses: libvirt chooses their addresses again.
fn machine(domain: Node<'_, '_>, wanted: &str, edits: &mut Edits<'_>, losses: &mut Vec<Loss>) {
    let Some(os_type) = child(domain, "os").and_then(|os| child(os, "type")) else {
        return;
    };
    edits.set_attribute(os_type, "machine", wanted);
    let is = attribute(os_type, "machine");
    if board(&is) == board(wanted) {
        return;
    }
    let Some(devices) = child(domain, "devices") else {
        return;
    };
    losses.push(Loss {
        what: "addresses of devices",
        was: format!("as on {is}"),
    });
    for device in devices.children().filter(Node::is_element) {
        let of_the_board = match device.tag_name().name() {
            "controller" => {
                ["pci", "ide", "sata", "usb", "fdc"].contains(&&*attribute(device, "type"))
            }
            "watchdog" => attribute(device, "model") == "itco",
            _ => false,
        };
        if of_the_board {
            edits.remove(device);
            continue;
        }
        let pci = elements(device, "address").filter(|a| attribute(*a, "type") == "pci");
        pci.for_each(|address| edits.remove(address));
    }
}

/// The board that a machine type is a version of: `q35`, `i440fx`, `virt`.
fn board(machine: &str) -> &str {
    let name = machine.strip_prefix("pc-").unwrap_or(machine);
    match name.split('-').next().unwrap_or(name) {
        "pc" => "i440fx",
        board => board,
    }
}

/// How many CPUs are on, and with them how many there are at most: a limit above stays. Returns
/// whether NUMA cells may stay.
fn vcpus(domain: Node<'_, '_>, wanted: u32, edits: &mut Edits<'_>, losses: &mut Vec<Loss>) -> bool {
    let Some(vcpu) = child(domain, "vcpu") else {
        return true;
    };
    let most: u32 = number(vcpu).unwrap_or(1);
    let current = vcpu.attribute("current").and_then(|c| c.parse().ok());
    if current.unwrap_or(most) == wanted {
        return true;
    }
    if let Some(listed) = child(domain, "vcpus") {
        losses.push(Loss {
            what: "list of vcpus",
            was: format!("{} of {most} on", current.unwrap_or(most)),
        });
        edits.remove(listed);
    }
    if current.is_some() && wanted < most {
        edits.set_attribute(vcpu, "current", &wanted.to_string());
        return true;
    }
    edits.remove_attribute(vcpu, "current");
    if wanted == most {
        return true;
    }
    edits.set_text(vcpu, &wanted.to_string());
    let cells_stay = cpu_layout(domain, wanted, edits, losses);
    for pin in child(domain, "cputune")
        .into_iter()
        .flat_map(|tune| elements(tune, "vcpupin"))
    {
        let of: u32 = attribute(pin, "vcpu").parse().unwrap_or(0);
        if of >= wanted {
            losses.push(Loss {
                what: "CPU pinning",
                was: format!("vcpu {of} on {}", attribute(pin, "cpuset")),
            });
            edits.remove(pin);
        }
    }
    cells_stay
}

/// libvirt takes no topology of another number of CPUs, and no NUMA cell with a CPU that is not
/// there.
fn cpu_layout(
    domain: Node<'_, '_>,
    wanted: u32,
    edits: &mut Edits<'_>,
    losses: &mut Vec<Loss>,
) -> bool {
    let Some(cpu) = child(domain, "cpu") else {
        return true;
    };
    if let Some(topology) = child(cpu, "topology") {
        let parts = ["sockets", "dies", "clusters", "cores", "threads"];
        let given = parts
            .iter()
            .filter_map(|part| Some((part, topology.attribute(*part)?)));
        let product = given
            .clone()
            .map(|(_, n)| n.parse().unwrap_or(1))
            .product::<u32>();
        if product != wanted {
            let words: Vec<String> = given.map(|(part, n)| format!("{n} {part}")).collect();
            losses.push(Loss {
                what: "CPU topology",
                was: words.join(", "),
            });
            edits.remove(topology);
        }
    }
    let Some(numa) = child(cpu, "numa") else {
        return true;
    };
    let cells: Vec<String> = elements(numa, "cell")
        .map(|cell| attribute(cell, "cpus"))
        .collect();
    let last = |list: &String| {
        list.split([',', '-'])
            .filter_map(|n| n.parse::<u32>().ok())
            .max()
    };
    let stays = cells.iter().filter_map(last).all(|last| last < wanted);
    if !stays {
        losses.push(Loss {
            what: "NUMA cells",
            was: format!("cpus {}", cells.join(" and ")),
        });
        edits.remove(numa);
    }
    stays
}

/// Where there are NUMA cells, the memory is the sum of theirs: each keeps its share.
fn memory(domain: Node<'_, '_>, wanted: u64, cells_stay: bool, edits: &mut Edits<'_>) {
    let set = |edits: &mut Edits<'_>, node: Node<'_, '_>, kib: u64| {
        if node.has_attribute("unit") {
            edits.set_attribute(node, "unit", "KiB");
        }
        edits.set_text(node, &kib.to_string());
    };
    let differs = |node: &Node<'_, '_>| definition::kib(*node) != Some(wanted);
    for name in ["memory", "currentMemory"] {
        if let Some(node) = child(domain, name).filter(differs) {
            set(edits, node, wanted);
        }
    }
    let too_low = |node: &Node<'_, '_>| definition::kib(*node).is_some_and(|kib| kib < wanted);
    if let Some(most) = child(domain, "maxMemory").filter(too_low) {
        set(edits, most, wanted);
    }
    let numa = child(domain, "cpu").and_then(|cpu| child(cpu, "numa"));
    let Some(numa) = numa.filter(|_| cells_stay) else {
        return;
    };
    let in_devices: u64 = child(domain, "devices")
        .into_iter()
        .flat_map(|devices| elements(devices, "memory"))
        .filter_map(|module| definition::kib(child(child(module, "target")?, "size")?))
        .sum();
    let cells: Vec<(Node<'_, '_>, u64)> = elements(numa, "cell")
        .filter_map(|cell| Some((cell, definition::kib_of(cell, cell.attribute("memory")?)?)))
        .collect();
    let is: u64 = cells.iter().map(|(_, kib)| kib).sum();
    let wanted = wanted.saturating_sub(in_devices);
    if is == wanted || is == 0 {
        return;
    }
    let mut left = wanted;
    for (place, (cell, kib)) in cells.iter().enumerate() {
        let share = u128::from(*kib) * u128::from(wanted) / u128::from(is) / 1024 * 1024;
        let share = if place + 1 == cells.len() {
            left
        } else {
            u64::try_from(share).unwrap_or(left).min(left)
        };
        left -= share;
        edits.set_attribute(*cell, "memory", &share.to_string());
        if cell.has_attribute("unit") {
            edits.set_attribute(*cell, "unit", "KiB");
        }
    }
}
