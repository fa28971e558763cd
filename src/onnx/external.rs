//! Tensor data in files of its own: read beneath the model's folder, and written beside the model.

use super::{pb, tensors::is_external, walk};
use crate::sys::{contents, open_beneath};
use crate::{Error, Result, atomic};
use bytes::Bytes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Tensors of fewer bytes stay in the model's file.
const SMALLEST: usize = 1024;
/// Where a tensor begins in its file: a page, so that it can be mapped (ONNX, external data).
const ALIGNMENT: u64 = 4096;

/// Gives every tensor whose data lies in another file beneath `folder` its bytes, shared with the mapped file. The entries that
/// say where it lies stay.
///
/// # Errors
/// An entry leads out of the folder, names a file that is not there, or a part that is not in it; the message names the tensor.
pub(super) fn resolve(model: &mut pb::ModelProto, folder: &Path) -> Result<()> {
    let mut files: HashMap<PathBuf, Bytes> = HashMap::new();
    walk::tensors_mut(model, &mut |t| {
        if is_external(t) {
            let bytes = part(t, folder, &mut files).map_err(|e| e.context(format!("tensor `{}`", t.name())))?;
            t.set_raw_data(bytes);
        }
        Ok(())
    })
}

/// The bytes that the tensor's entries name.
fn part(t: &pb::TensorProto, folder: &Path, files: &mut HashMap<PathBuf, Bytes>) -> Result<Bytes> {
    let (mut location, mut offset, mut length) = (None, 0, None);
    for entry in &t.external_data {
        let number = || {
            let value = entry.value().parse::<usize>();
            value.map_err(|_| Error::bad_input(format!("its external data has the {} `{}`", entry.key(), entry.value())))
        };
        match entry.key() {
            "location" => location = Some(PathBuf::from(entry.value())),
            "offset" => offset = number()?,
            "length" => length = Some(number()?),
            // `checksum` is optional and SHA-1; keys of the future say nothing that reading needs.
            _ => {}
        }
    }
    let location = location.ok_or_else(|| Error::bad_input("its external data names no file"))?;
    if !files.contains_key(&location) {
        let file = open_beneath(folder, &location).and_then(contents).map_err(|e| unreadable(folder, &location, e))?;
        files.insert(location.clone(), file);
    }
    let file = &files[&location];
    let end = length.map_or(Some(file.len()), |n| offset.checked_add(n)).filter(|&end| offset <= end && end <= file.len());
    let end = end.ok_or_else(|| {
        let part = length.map_or_else(String::new, |n| format!(" and length {n}"));
        Error::bad_input(format!("offset {offset}{part} lie outside `{}`, which has {} bytes", location.display(), file.len()))
            .hint("the data file is cut or belongs to another model; copy both again")
    })?;
    Ok(file.slice(offset..end))
}

fn unreadable(folder: &Path, location: &Path, e: std::io::Error) -> Error {
    if e.kind() == std::io::ErrorKind::PermissionDenied && e.raw_os_error().is_none() {
        return Error::bad_input(format!("its data file `{}` is not opened: {e}", location.display()))
            .hint("data files are read from the model's own folder only, and not through links; copy the file there");
    }
    Error::read(folder.join(location), e).hint("data files belong beside the model; copy them together")
}

/// True when some tensor's data belongs into another file.
pub(super) fn any(model: &pb::ModelProto) -> bool {
    walk::tensors(model, &mut |t| if is_external(t) { Err(Error::bad_input("found")) } else { Ok(()) }).is_err()
}

/// The data that came from other files.
pub(super) fn data(model: &pb::ModelProto) -> Vec<Bytes> {
    let mut found = Vec::new();
    let all = walk::tensors(model, &mut |t| {
        found.extend(is_external(t).then_some(t.raw_data.as_ref()).flatten().cloned());
        Ok(())
    });
    debug_assert!(all.is_ok(), "the visitor fails never");
    found
}

/// The same model with all data inside. Data is shared, not copied.
///
/// # Errors
/// The data of a tensor was not read.
pub(super) fn embedded(model: &pb::ModelProto) -> Result<pb::ModelProto> {
    let mut model = model.clone();
    walk::tensors_mut(&mut model, &mut |t| {
        if is_external(t) {
            if t.raw_data.is_none() {
                return Err(Error::bad_input(format!("tensor `{}`: its data lies in another file, which was not read", t.name())));
            }
            t.data_location = None;
            t.external_data.clear();
        }
        Ok(())
    })?;
    Ok(model)
}

/// Writes the larger tensors to `PATH.data` and returns the model that refers to it.
///
/// # Errors
/// The folder is not writable or the disk is full.
pub(super) fn write_data(model: &pb::ModelProto, path: &Path) -> Result<pb::ModelProto> {
    let name = path.file_name().map(|n| n.to_string_lossy() + ".data").unwrap_or_default().into_owned();
    let mut model = model.clone();
    let mut parts: Vec<(u64, Bytes)> = Vec::new();
    let mut end = 0u64;
    walk::tensors_mut(&mut model, &mut |t| {
        let Some(bytes) = t.raw_data.take_if(|b| b.len() >= SMALLEST) else {
            // What is small comes into the file, wherever it was.
            if t.raw_data.is_some() {
                t.data_location = None;
                t.external_data.clear();
            }
            return Ok(());
        };
        let offset = end.next_multiple_of(ALIGNMENT);
        end = offset + bytes.len() as u64;
        let entries = [("location", name.clone()), ("offset", offset.to_string()), ("length", bytes.len().to_string())];
        t.external_data = entries.map(|(key, value)| entry(key, value)).into();
        t.set_data_location(1);
        parts.push((offset, bytes));
        Ok(())
    })?;
    atomic::write_with(&path.with_file_name(name), |file| {
        let mut at = 0;
        for (offset, bytes) in &parts {
            let gap = [0; ALIGNMENT as usize];
            file.write_all(&gap[..(offset - at) as usize])?;
            file.write_all(bytes)?;
            at = offset + bytes.len() as u64;
        }
        Ok(())
    })?;
    Ok(model)
}

fn entry(key: &str, value: String) -> pb::StringStringEntryProto {
    let mut entry = pb::StringStringEntryProto::new();
    entry.set_key(key.to_owned());
    entry.set_value(value);
    entry
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use crate::onnx::{Model, pb};
    use std::path::Path;

    /// A shipped model saved with its data in another file.
    fn split(folder: &Path) -> Model {
        let mut model = Model::load("models/fashion-mlp.onnx").unwrap();
        model.graph_mut().initializer[0].set_data_location(1);
        assert!(model.has_external_data());
        model.save(folder.join("m.onnx")).unwrap();
        Model::load(folder.join("m.onnx")).unwrap()
    }

    fn entries(model: &mut Model) -> &mut Vec<pb::StringStringEntryProto> {
        let tensor = model.graph_mut().initializer.iter_mut().find(|t| t.data_location() == 1).unwrap();
        &mut tensor.external_data
    }

    #[test]
    fn data_in_another_file_comes_back_and_moves_with_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let model = split(folder.path());
        let file = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(file("m.onnx") < 10_000 && file("m.onnx.data") > 100_000);
        let original = Model::load("models/fashion-mlp.onnx").unwrap();
        assert_eq!(model.to_bytes().unwrap(), original.to_bytes().unwrap());
        // Over itself, and to another name: each model has its own data.
        model.save(folder.path().join("m.onnx")).unwrap();
        model.save(folder.path().join("n.onnx")).unwrap();
        std::fs::remove_file(folder.path().join("m.onnx.data")).unwrap();
        assert_eq!(Model::load(folder.path().join("n.onnx")).unwrap().to_bytes().unwrap(), original.to_bytes().unwrap());
        let e = Model::load(folder.path().join("m.onnx")).unwrap_err();
        assert!(e.to_string().contains("m.onnx.data"), "{e}");
    }

    #[test]
    fn entries_that_lie_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), vec![0; 1 << 20]).unwrap();
        let inner = folder.path().join("model");
        std::fs::create_dir(&inner).unwrap();
        for (key, value, says) in [
            ("location", "../secret", "leads out of the folder"),
            ("location", "/etc/passwd", "leads out of the folder"),
            ("location", "link", "symbolic link"),
            ("location", "absent", "absent"),
            ("location", "", "names no file"),
            ("offset", "18446744073709551615", "lie outside"),
            ("offset", "-1", "`-1`"),
            ("length", "99999999999", "lie outside"),
            ("length", "4096", "dimensions"),
        ] {
            let mut model = split(&inner);
            let _ = std::os::unix::fs::symlink(folder.path().join("secret"), inner.join("link"));
            entries(&mut model).iter_mut().find(|e| e.key() == key).unwrap().set_value(value.into());
            let bytes = {
                let mut proto = model.proto().clone();
                proto
                    .graph
                    .mut_or_insert_default()
                    .initializer
                    .iter_mut()
                    .filter(|t| t.data_location() == 1)
                    .for_each(|t| t.raw_data = None);
                protobuf::Message::write_to_bytes(&proto).unwrap()
            };
            std::fs::write(inner.join("bad.onnx"), bytes).unwrap();
            let e = Model::load(inner.join("bad.onnx")).unwrap_err().to_string();
            assert!(e.contains(says) && e.contains("tensor `"), "{key} {value}: {e}");
        }
    }
}
