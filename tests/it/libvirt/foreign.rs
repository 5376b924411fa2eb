//! A host full of what others made, under names close to ours: lbctl leaves each byte of it
//! unchanged, and stays quick.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use super::figures::{count, tell};
use super::sandbox::Sandbox;

/// Names that one could take for `name`, numbered.
fn alike(name: &str, number: usize) -> String {
    match number % 5 {
        0 => format!("{name}{number}"),
        1 => format!("{name}-{number}"),
        2 => format!("x{number}-{name}"),
        3 => format!("{}-{number}", name.to_uppercase()),
        _ => format!("{name}.{number}.iso"),
    }
}

/// The others' domains, volumes and reservations, by their XML and bytes.
fn of_others(vm: &Sandbox, names: &[String]) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for domain in names {
        let xml = vm
            .virsh(&format!("dumpxml {domain} --inactive"))
            .ok()
            .stdout;
        all.insert(format!("domain {domain}"), xml.into_bytes());
    }
    for entry in fs::read_dir(&vm.pool_dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let ours = [
            vm.fill("@vm"),
            vm.fill("@seed"),
            vm.fill("@seed2"),
            vm.fill("@seed3"),
        ];
        if !ours.contains(&name) {
            all.insert(format!("volume {name}"), fs::read(&path).unwrap());
        }
    }
    for which in ["", "--inactive"] {
        let xml = vm.virsh(&format!("net-dumpxml @net {which}")).ok().stdout;
        // Ours, and how many guests the network has now.
        let ours = vm.fill("ip='@ip'");
        let is_others = |line: &&str| !line.contains(&ours) && !line.starts_with("<network");
        let others = xml.lines().filter(is_others);
        let others: Vec<&str> = others.collect();
        all.insert(format!("network {which}"), others.join("\n").into_bytes());
    }
    all
}

/// Calls to libvirt and the median time of an `up` that has nothing to do.
fn no_op(vm: &Sandbox) -> (u64, Duration) {
    let mut times = Vec::new();
    let mut calls = 0;
    for _ in 0..9 {
        let begun = Instant::now();
        let ran = vm.lbctl("--json up").ok();
        times.push(begun.elapsed());
        calls = ran.json()["libvirt_calls"].as_u64().unwrap();
    }
    times.sort_unstable();
    (calls, times[times.len() / 2])
}

/// The domains of others are read only while something is about to be claimed.
#[test]
fn nothing_to_do_costs_the_same_beside_many_domains() {
    let vm = Sandbox::new();
    vm.up();
    let alone = no_op(&vm);
    let many = count("DOMAINS", 40, 1000);
    let name = |n: usize| format!("{}-{n}", vm.fill("@other"));
    let (mut define, mut undefine) = (Vec::new(), Vec::new());
    for n in 0..many {
        let xml = format!(
            "<domain type='qemu'><name>{}</name><memory unit='MiB'>64</memory>
             <os><type arch='x86_64' machine='q35'>hvm</type></os>
             <devices><disk type='file'><source file='@dir/d{n}'/><target dev='vda'/></disk></devices></domain>",
            name(n)
        );
        vm.write(&format!("n{n}.xml"), &vm.fill(&xml));
        define.push(format!("define @home/n{n}.xml"));
        undefine.push(format!("undefine {}", name(n)));
    }
    for commands in define.chunks(50) {
        vm.virsh(&commands.join("; ")).ok();
    }
    let crowded = no_op(&vm);
    for commands in undefine.chunks(50) {
        vm.virsh(&commands.join("; ")).ok();
    }
    let ratio = crowded.1.as_secs_f64() / alone.1.as_secs_f64();
    tell(format_args!(
        "an `up` with nothing to do beside {many} domains of others | {} calls, {} on an empty host | {:.3} s, {:.3} s; ratio {ratio:.2}",
        crowded.0,
        alone.0,
        crowded.1.as_secs_f64(),
        alone.1.as_secs_f64(),
    ));
    assert_eq!(crowded.0, alone.0, "calls to libvirt");
    // On a busy machine single runs differ by this much; reading the domains would cost far more.
    assert!(ratio < 2.0, "{ratio:.2} times as long");
}

#[test]
fn a_host_full_of_others_is_unchanged() {
    let mut vm = Sandbox::new();
    let alone = Instant::now();
    vm.up();
    let alone = alone.elapsed();
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();

    let neighbours = count("NEIGHBOURS", 20, 100);
    let number = vm.fill("@mac")[12..14].to_owned();
    let (mut names, mut commands) = (Vec::new(), Vec::new());
    for n in 0..neighbours {
        let (name, seed) = (alike(&vm.name, n), alike(&vm.fill("@seed"), n));
        let mac = format!("52:54:01:{number}:{:02x}:{:02x}", n / 256, n % 256);
        // The host's own, and so of every sandbox's, are distinguished by the first letters; see
        // `Sandbox::drop`.
        let domain = format!("{}-{n}", vm.fill("@other"));
        let domain = if n % 2 == 0 {
            format!("{}-{domain}", vm.name)
        } else {
            domain
        };
        let xml = format!(
            "<domain type='qemu'><name>{domain}</name><title>{name}</title><memory unit='MiB'>64</memory>
             <os><type arch='x86_64' machine='q35'>hvm</type></os>
             <devices><interface type='network'><source network='@net'/><mac address='{mac}'/></interface></devices></domain>"
        );
        vm.write(&format!("n{n}.xml"), &vm.fill(&xml));
        commands.push(format!("define @home/n{n}.xml"));
        commands.push(format!("vol-create-as @pool {seed} 4k"));
        commands.push(format!(
            "net-update @net add ip-dhcp-host \"<host mac='{mac}' name='{name}' ip='@subnet.{}'/>\" --live --config",
            22 + n % 70 + 130 * (n / 70)
        ));
        names.push(domain);
    }
    vm.virsh(&commands.join("; ")).ok();
    for n in 0..neighbours {
        let path = vm.pool_dir.join(alike(&vm.fill("@seed"), n));
        fs::write(path, format!("somebody's {n}").repeat(50)).unwrap();
    }
    let before = of_others(&vm, &names);
    let whole = vm.snapshot();
    let same = |what: &str| {
        let after = of_others(&vm, &names);
        for (item, bytes) in &before {
            assert!(after.get(item) == Some(bytes), "{item}, after {what}");
        }
        assert_eq!(after.len(), before.len(), "after {what}");
    };

    let crowded = Instant::now();
    vm.up();
    let crowded = crowded.elapsed();
    same("up");
    let again = Instant::now();
    vm.up();
    let again = again.elapsed();
    let home = vm.home.path().join("lbctl.toml");
    let text = fs::read_to_string(&home).unwrap();
    fs::write(&home, text.replace("memory = 256", "memory = 384")).unwrap();
    vm.lbctl("up --restart now --stop-timeout=1s").ok();
    same("update");
    vm.virsh("destroy @vm").ok();
    vm.lbctl("renew --force").ok();
    same("renew");
    vm.lbctl("down --yes --stop-timeout=1s --delete-volume")
        .ok();
    same("down");
    whole.assert_same(&vm.snapshot());
    tell(format_args!(
        "beside {neighbours} domains, volumes and reservations of others | all as they were after up, update, renew, down | first up {:.2} s (alone on the host {:.2} s), up again {:.2} s",
        crowded.as_secs_f64(),
        alone.as_secs_f64(),
        again.as_secs_f64(),
    ));
    vm.start_over();
    vm.virsh(
        &names
            .iter()
            .map(|n| format!("undefine {n}"))
            .collect::<Vec<_>>()
            .join("; "),
    )
    .ok();
}
