//! Where ONNX Runtime's shared library may be.
//!
//! `ORT_DYLIB_PATH` names it; else the folders where the system keeps its libraries are searched, then the `onnxruntime` package of
//! Python environments. Nothing is loaded and no Python is started for that.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Environment variables that say where to look.
const VARIABLES: [&str; 6] = ["ORT_DYLIB_PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PATH", "HOME"];

/// What decides where the library is looked for: environment variables, and the root of the file system.
#[derive(Debug, Clone)]
pub(super) struct Places {
    root: PathBuf,
    variables: HashMap<&'static str, OsString>,
}

impl Places {
    /// Those of this process.
    pub(super) fn here() -> Self {
        let set = VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        Places { root: PathBuf::from("/"), variables: set.collect() }
    }

    /// Files to try, the best first. A file that `ORT_DYLIB_PATH` names, there or not, is the only one.
    pub(super) fn candidates(&self) -> Vec<PathBuf> {
        if let Some(named) = self.value("ORT_DYLIB_PATH").map(PathBuf::from) {
            return vec![newest_in(&named).unwrap_or(named)];
        }
        let mut found: Vec<PathBuf> = Vec::new();
        for folder in self.library_folders().into_iter().chain(self.python_packages()) {
            // The same file often has several names.
            let file = newest_in(&folder).map(|file| file.canonicalize().unwrap_or(file));
            found.extend(file.filter(|file| !found.contains(file)));
        }
        found
    }

    fn value(&self, variable: &str) -> Option<&OsString> {
        self.variables.get(variable).filter(|v| !v.is_empty())
    }

    fn paths(&self, variable: &str) -> Vec<PathBuf> {
        self.value(variable).map(|v| std::env::split_paths(v).collect()).unwrap_or_default()
    }

    /// Where the dynamic linker looks.
    fn library_folders(&self) -> Vec<PathBuf> {
        let mut folders = self.paths("LD_LIBRARY_PATH");
        let configured = std::iter::once(self.root.join("etc/ld.so.conf")).chain(entries(&self.root.join("etc/ld.so.conf.d")));
        for file in configured {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            folders.extend(text.lines().filter_map(|line| Some(self.root.join(line.trim().strip_prefix('/')?))));
        }
        let multiarch = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let usual = ["usr/local/lib", "usr/local/lib64", "usr/lib", "usr/lib64", &multiarch];
        folders.extend(usual.iter().map(|folder| self.root.join(folder)));
        folders
    }

    /// The `onnxruntime` packages of Python environments: the active one's, of the `python3` on `PATH`, the user's, the system's.
    fn python_packages(&self) -> Vec<PathBuf> {
        let mut prefixes: Vec<PathBuf> =
            ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(|v| self.value(v).map(Into::into)).collect();
        let python = self.paths("PATH").into_iter().map(|folder| folder.join("python3")).find(|file| file.is_file());
        // A virtual environment's `python3` is a link to another environment's.
        let real = python.as_ref().and_then(|file| file.canonicalize().ok());
        prefixes.extend(python.iter().chain(&real).filter_map(|file| Some(file.parent()?.parent()?.to_owned())));
        prefixes.extend(self.value("HOME").map(|home| Path::new(home).join(".local")));
        prefixes.extend(["usr/local", "usr"].map(|prefix| self.root.join(prefix)));
        let mut packages = Vec::new();
        for lib in prefixes.iter().flat_map(|prefix| ["lib", "lib64"].map(|lib| prefix.join(lib))) {
            let is_python = |folder: &PathBuf| folder.file_name().and_then(OsStr::to_str).is_some_and(|n| n.starts_with("python3"));
            let pythons = entries(&lib).into_iter().filter(is_python).rev();
            packages.extend(pythons.flat_map(|p| ["site-packages", "dist-packages"].map(|site| p.join(site).join("onnxruntime/capi"))));
        }
        packages
    }
}

/// What is in a folder, sorted by name; nothing when it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    entries
}

/// `libonnxruntime.so` in `folder`, with the highest version in its name.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let version = |file: &PathBuf| -> Option<Vec<u32>> {
        let rest = file.file_name()?.to_str()?.strip_prefix("libonnxruntime.so")?;
        rest.split('.').skip(1).map(|n| n.parse().ok()).collect::<Option<_>>().filter(|_| rest.is_empty() || rest.starts_with('.'))
    };
    entries(folder).into_iter().filter_map(|file| Some((version(&file)?, file))).max().map(|(_, file)| file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// A machine with these files, all of them empty.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn with(files: &[&str]) -> Self {
            let machine = Machine(tempfile::tempdir().unwrap());
            for file in files {
                let path = machine.at(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            machine
        }

        /// The real path: folders for temporary files may be links themselves.
        fn at(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        #[track_caller]
        fn finds(&self, variables: &[(&'static str, &str)], expect: &[&str]) {
            let set = |(name, value): &(&'static str, &str)| (*name, self.at(value).into_os_string());
            let places = Places { root: self.at(""), variables: variables.iter().map(set).collect() };
            assert_eq!(places.candidates(), expect.iter().map(|file| self.at(file)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_variable_names_a_file_or_its_folder_and_nothing_else_is_tried() {
        let machine = Machine::with(&["usr/lib/libonnxruntime.so.1.20.0", "mine/libonnxruntime.so.1.9.0", "mine/libonnxruntime.so.1.18.1"]);
        machine.finds(&[], &["usr/lib/libonnxruntime.so.1.20.0"]);
        machine.finds(&[("ORT_DYLIB_PATH", "mine/libonnxruntime.so.1.9.0")], &["mine/libonnxruntime.so.1.9.0"]);
        machine.finds(&[("ORT_DYLIB_PATH", "mine")], &["mine/libonnxruntime.so.1.18.1"]);
        machine.finds(&[("ORT_DYLIB_PATH", "gone.so")], &["gone.so"]);
    }

    #[test]
    fn libraries_of_the_system_come_before_those_of_python() {
        let machine = Machine::with(&[
            "loader/libonnxruntime.so",
            "opt/ort/lib/libonnxruntime.so.1.21",
            "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.30.0",
            "usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.18.0",
            "usr/lib/libonnxruntime_providers_shared.so",
        ]);
        std::fs::create_dir_all(machine.at("etc/ld.so.conf.d")).unwrap();
        std::fs::write(machine.at("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n").unwrap();
        std::fs::write(machine.at("etc/ld.so.conf.d/ort.conf"), "# ours\n/opt/ort/lib\n").unwrap();
        machine.finds(
            &[("LD_LIBRARY_PATH", "loader"), ("VIRTUAL_ENV", "venv")],
            &[
                "loader/libonnxruntime.so",
                "opt/ort/lib/libonnxruntime.so.1.21",
                "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.30.0",
                "usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.18.0",
            ],
        );
        Machine::with(&[]).finds(&[("HOME", "home"), ("PATH", "bin")], &[]);
    }

    #[cfg(unix)]
    #[test]
    fn the_python_on_the_path_is_followed_to_its_environment_and_a_file_counts_once() {
        let package = "conda/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.24.0";
        let machine = Machine::with(&[package, "conda/bin/python3.11"]);
        std::fs::create_dir_all(machine.at("venv/bin")).unwrap();
        std::os::unix::fs::symlink(machine.at("conda/bin/python3.11"), machine.at("venv/bin/python3")).unwrap();
        machine.finds(&[("PATH", "venv/bin"), ("CONDA_PREFIX", "conda")], &[package]);
        machine.finds(&[("PATH", "venv/bin")], &[package]);
    }
}
