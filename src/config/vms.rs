//! `[[vms]]`: several VMs of one load balancer in one file. What they share stands where it stands
//! in a file of one VM, and each VM has what is its own ([`keys::of_a_vm`]) in a table of its list.
//! From both is made the tree that the VM would have as a file by itself ([`View`]), and the
//! readers read that: they do not know that there are others. The places in it stay those of the
//! file, so every problem points to where it is.
//!
//! What no VM can see alone is judged here: what is given in both places, what two VMs both have.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned as InFile;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostics, Spanned};
use super::keys::{self, VMS};
use super::reader::{blank, join};
use super::report::{Draft, Problem, ProblemId, SourceText};
use super::schema;

/// What one VM is read from.
pub(super) struct View<'t> {
    pub table: Cow<'t, DeTable<'t>>,
    /// `None`: the file has no `[[vms]]`.
    pub own: Option<Own>,
}

/// Which parts of a view stand in the VM's own table.
pub(super) struct Own {
    /// `vms[1]`
    pub path: String,
    /// Its `[[vms]]`.
    pub span: Range<usize>,
    /// How many other VMs the list has.
    pub others: usize,
    /// The places of all values in it.
    values: BTreeSet<(usize, usize)>,
}

impl Own {
    fn new(place: usize, others: usize, item: &InFile<DeValue<'_>>) -> Self {
        let mut values = BTreeSet::new();
        note_places(item, &mut values);
        Self {
            path: format!("{VMS}[{place}]"),
            span: item.span(),
            others,
            values,
        }
    }

    pub fn has(&self, span: &Range<usize>) -> bool {
        self.values.contains(&(span.start, span.end))
    }

    /// A key by the path that it has in the file. `path` is that of the table that it was found in,
    /// which may be put together from both places.
    pub fn path_of(&self, path: &str, name: &str, span: &Range<usize>) -> String {
        let path = path.strip_prefix(&self.path).unwrap_or(path);
        let path = join(path.trim_start_matches('.'), name);
        if self.has(span) {
            join(&self.path, &path)
        } else {
            path
        }
    }
}

fn note_places(value: &InFile<DeValue<'_>>, places: &mut BTreeSet<(usize, usize)>) {
    let span = value.span();
    places.insert((span.start, span.end));
    match value.get_ref() {
        DeValue::Table(table) => {
            for (_, value) in table {
                note_places(value, places);
            }
        }
        DeValue::Array(array) => {
            for value in array {
                note_places(value, places);
            }
        }
        _ => {}
    }
}

/// Whether the file is meant to have several VMs, however wrong. An empty list is as good as none.
pub(super) fn are_in(root: &DeTable<'_>) -> bool {
    let misspelled = || keys::find(VMS).is_some_and(|key| schema::misspelled(key, root, ""));
    root.get(VMS)
        .map_or_else(misspelled, |list| !blank(list.get_ref()))
}

/// One view for each VM; of a file without a list, the file.
pub(super) fn views<'t>(root: &'t DeTable<'t>, diagnostics: &Diagnostics) -> Vec<View<'t>> {
    if !are_in(root) {
        return vec![View {
            table: Cow::Borrowed(root),
            own: None,
        }];
    }
    let list = root.get(VMS).and_then(|list| list.get_ref().as_array());
    let Some(list) = list else {
        return Vec::new();
    };
    if let (Some(name), Some(first)) = (root.get("name"), list.iter().next()) {
        let given = place("name", name);
        let what = "is given beside [[vms]], and each VM has a name of its own";
        let help = "write it into the [[vms]] that it belongs to";
        diagnostics.conflict(&given, &place(VMS, first), what, "a VM of the list", help);
    }
    let mut shared = root.clone();
    shared.remove(VMS);
    shared.remove("name");
    let others = list.len().saturating_sub(1);
    let items = list.iter().enumerate();
    items
        .filter_map(|(number, item)| {
            let own = Own::new(number, others, item);
            let given = item.get_ref().as_table()?;
            let mut table = merged(&shared, given, "", &own.path, diagnostics);
            name_volume(&mut table);
            Some(View {
                table: Cow::Owned(table),
                own: Some(own),
            })
        })
        .collect()
}

fn place(key: &str, value: &InFile<DeValue<'_>>) -> Spanned<()> {
    Spanned {
        value: (),
        key: key.to_owned(),
        span: value.span(),
    }
}

/// Tables are put together key by key; any other key may be given in one of the two places. `path`
/// is that of the table, and `vm` that of the VM.
fn merged<'t>(
    shared: &DeTable<'t>,
    own: &DeTable<'t>,
    path: &str,
    vm: &str,
    diagnostics: &Diagnostics,
) -> DeTable<'t> {
    let mut table = shared.clone();
    for (name, value) in own {
        let path = join(path, name.get_ref());
        let value = match shared.get(name.get_ref().as_ref()) {
            None => value.clone(),
            Some(there) => match (there.get_ref(), value.get_ref()) {
                (_, given) if blank(given) => there.clone(),
                (given, _) if blank(given) => value.clone(),
                (DeValue::Table(all), DeValue::Table(one)) => {
                    let both = merged(all, one, &path, vm, diagnostics);
                    InFile::new(value.span(), DeValue::Table(both))
                }
                _ => {
                    // What may not stand in a VM is reported as such.
                    if keys::find(&format!("{VMS}[].{path}")).is_some() {
                        let here = place(&join(vm, &path), value);
                        let what = "is given for all VMs, too";
                        let help = "keep it there if it is the same for all; otherwise give it in each [[vms]]";
                        let label = "given for all VMs";
                        diagnostics.conflict(&here, &place(&path, there), what, label, help);
                    }
                    value.clone()
                }
            },
        };
        table.remove(name.get_ref().as_ref());
        table.insert(name.clone(), value);
    }
    table
}

/// The disk that lbctl makes for a VM has the VM's name where it is given none.
fn name_volume(table: &mut DeTable<'_>) {
    let Some(name) = table.get("name").cloned() else {
        return;
    };
    let is_given = |value: &InFile<DeValue<'_>>| !blank(value.get_ref());
    if let Some(DeValue::Table(volume)) = table.get_mut("volume").map(InFile::get_mut)
        && volume.iter().any(|(_, value)| is_given(value))
        && !volume.get("name").is_some_and(is_given)
    {
        volume.remove("name");
        volume.insert(InFile::new(name.span(), "name".into()), name);
    }
}

/// What of a VM nothing else on its host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unique {
    /// In the whole file: it is what `--only` names, and the hostname.
    Name,
    Address,
    Mac,
    Volume,
}

/// What a VM was found to have, and where that is said.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub of: Unique,
    pub value: String,
    pub place: Spanned<()>,
}

/// What was found of one VM, to be held against the others.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// `libvirt.uri`, where it is given and fit.
    pub host: Option<String>,
    pub all: Vec<Claim>,
}

impl Claims {
    pub fn first(&self, of: Unique) -> Option<&Claim> {
        self.all.iter().find(|claim| claim.of == of)
    }

    /// To be held against those of other files.
    pub fn known(&self, source: &SourceText<'_>) -> KnownClaims {
        let known = |claim: &Claim| {
            let place = Draft {
                id: ProblemId::Conflict,
                key: claim.place.key.clone(),
                span: Some(claim.place.span.clone()),
                message: String::new(),
                help: String::new(),
                other: None,
            };
            KnownClaim {
                of: claim.of,
                value: claim.value.clone(),
                place: source.problem(place),
            }
        };
        KnownClaims {
            host: self.host.clone(),
            all: self.all.iter().map(known).collect(),
        }
    }
}

/// A claim with its place as it is shown, where the text of its file is not at hand any more.
#[derive(Debug, Clone)]
pub(super) struct KnownClaim {
    pub of: Unique,
    pub value: String,
    pub place: Problem,
}

impl KnownClaim {
    pub fn is_like(&self, other: &Self) -> bool {
        self.of == other.of && self.value == other.value
    }
}

/// Those of one VM.
#[derive(Debug, Clone)]
pub(super) struct KnownClaims {
    pub host: Option<String>,
    pub all: Vec<KnownClaim>,
}

impl KnownClaims {
    pub fn name(&self) -> Option<&str> {
        let name = self.all.iter().find(|claim| claim.of == Unique::Name);
        name.map(|claim| claim.value.as_str())
    }
}

/// Notes what two VMs both have. On different hosts the same address or MAC address is worth a
/// warning: it is right only where the two networks share no segment.
pub(super) fn ensure_distinct(vms: &[Claims], diagnostics: &Diagnostics) {
    let place_of_name = |vm: &Claims| vm.first(Unique::Name).map(|name| name.place.span.clone());
    for (number, vm) in vms.iter().enumerate() {
        let name = place_of_name(vm);
        for claim in &vm.all {
            let earlier = vms.iter().take(number);
            // Volumes that have their names from that of the VM are the same where that is.
            let follows = |other: &Claims, found: &Claim| {
                claim.of != Unique::Name
                    && Some(&claim.place.span) == name.as_ref()
                    && Some(&found.place.span) == place_of_name(other).as_ref()
            };
            let mut same = earlier.filter_map(|other| {
                let alike = |c: &&Claim| c.of == claim.of && c.value == claim.value;
                let found = other.all.iter().find(alike);
                let found = found.filter(|found| !follows(other, found));
                found.map(|found| (found, other.host == vm.host))
            });
            if let Some((other, same_host)) = same.next() {
                note_twice(claim, other, same_host, diagnostics);
            }
        }
    }
}

/// What is said of something that two VMs both have.
pub(super) struct Twice {
    /// Stands behind the key.
    pub what: String,
    /// At the other place.
    pub label: &'static str,
    pub help: &'static str,
}

impl Twice {
    pub fn of(unique: Unique, value: &str) -> Self {
        let (what, label, help) = match unique {
            Unique::Name => (
                format!("is {value}, which is the name of another VM"),
                "the same name",
                "give each VM a name of its own",
            ),
            Unique::Address => (
                format!("is {value}, which another VM has"),
                "the same address",
                "give each VM an address of its own",
            ),
            Unique::Mac => (
                format!("is {value}, which another VM has"),
                "the same MAC address",
                "give each network interface one of its own, or leave mac out",
            ),
            Unique::Volume => (
                format!("is for volume {value}, which another VM has on the same host"),
                "the same volume",
                "give each VM a volume of its own; left out, `name` in [volume] is the VM's name",
            ),
        };
        Self { what, label, help }
    }
}

fn note_twice(claim: &Claim, other: &Claim, same_host: bool, diagnostics: &Diagnostics) {
    let Twice { what, label, help } = Twice::of(claim.of, &claim.value);
    if same_host || claim.of == Unique::Name {
        diagnostics.conflict(&claim.place, &other.place, &what, label, help);
    } else if claim.of != Unique::Volume {
        let what = format!("{what} on another host: right only where they share no network");
        diagnostics.warn(&claim.place, &what, help);
    }
}

/// The problems or warnings of all views as those of one file: what every VM has is said once, and
/// of what only some have the place of the VM is shown.
pub(super) fn together(found: Vec<(Vec<Draft>, Option<&Own>)>) -> Vec<Draft> {
    let count = found.len();
    let mut all: Vec<(Draft, usize, Option<&Own>)> = Vec::new();
    for (drafts, own) in found {
        for draft in drafts {
            match all.iter_mut().find(|(known, _, _)| *known == draft) {
                Some((_, times, _)) => *times += 1,
                None => all.push((draft, 1, own)),
            }
        }
    }
    let named = |(draft, times, own): (Draft, usize, Option<&Own>)| match own {
        Some(own) if times < count => of_one_vm(draft, own),
        _ => draft,
    };
    all.into_iter().map(named).collect()
}

fn of_one_vm(mut draft: Draft, own: &Own) -> Draft {
    let told = |span: &Range<usize>| own.has(span);
    let Some(span) = &draft.span else {
        draft.span = Some(own.span.clone());
        return draft;
    };
    let elsewhere = draft.other.as_ref().is_some_and(|(other, _)| told(other));
    if !told(span) && !elsewhere && draft.other.is_none() {
        draft.other = Some((own.span.clone(), "for this VM".to_owned()));
    }
    draft
}
