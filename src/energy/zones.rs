//! The zones of `class/powercap`: found by their `name` files, because the numbers say nothing (`intel-rapl:1` may be the
//! platform with the second socket at `:2`).

use super::tree::Tree;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a zone is part of, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `package-N`, `package-N-die-D`.
    Package,
    /// `dram`: memory, not part of its package's figure.
    Dram,
    /// `core`, `uncore`: already in their package's figure.
    Part,
    /// `psys`: the whole platform, packages included.
    Platform,
}

/// One zone with a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone {
    /// `package-0`, `package-0/dram`.
    pub(super) label: String,
    pub(super) role: Role,
    /// Its folder.
    pub(super) dir: PathBuf,
}

/// All zones that are known by name, each once: a package that `intel-rapl-mmio` repeats is taken from `intel-rapl`.
///
/// Zones may stand side by side (as in `class/powercap`) or in each other (as under `devices/virtual`).
pub(super) fn find(tree: &Tree) -> Vec<Zone> {
    let mut folders = BTreeMap::new();
    collect(&tree.root().join("class/powercap"), None, &mut folders);
    let name = |id: &str| folders.get(id).and_then(|dir: &PathBuf| tree.text(&dir.join("name")).ok()).filter(|n| !n.is_empty());

    let mut ids: Vec<&String> = folders.keys().filter(|id| id.contains(':')).collect();
    ids.sort_by_key(|id| (id.contains("mmio"), id.split(':').map(|n| n.parse().unwrap_or(0u64)).collect::<Vec<_>>(), id.as_str()));
    let mut zones: Vec<(String, Zone)> = Vec::new();
    for id in ids {
        let Some((own, role)) = name(id).and_then(|n| role(&n).map(|r| (n, r))) else { continue };
        let parent = id.rsplit_once(':').map(|(parent, _)| parent).and_then(name);
        let label = match parent {
            Some(parent) if role != Role::Package => format!("{parent}/{own}"),
            _ => own,
        };
        let control = id.split(':').next().unwrap_or_default().to_owned();
        if zones.iter().all(|(other, z)| z.label != label || *other == control) {
            zones.push((control, Zone { label, role, dir: folders[id].clone() }));
        }
    }
    zones.into_iter().map(|(_, zone)| zone).collect()
}

fn role(name: &str) -> Option<Role> {
    match name {
        "dram" => Some(Role::Dram),
        "core" | "uncore" => Some(Role::Part),
        "psys" => Some(Role::Platform),
        _ if name.strip_prefix("package-").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit())) => Some(Role::Package),
        _ => None,
    }
}

/// Folders by their own names, which are unique in the class. A zone's folder is named after the one it is in, which also
/// keeps the walk from following `subsystem` and `device` links.
fn collect(dir: &Path, parent: Option<&str>, folders: &mut BTreeMap<String, PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let inside = parent.is_none_or(|p| id.strip_prefix(p).is_some_and(|rest| rest.starts_with(':')));
        if inside && !folders.contains_key(&id) && entry.path().is_dir() {
            folders.insert(id.clone(), entry.path());
            collect(&entry.path(), Some(&id), folders);
        }
    }
}
