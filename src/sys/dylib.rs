//! The version of ONNX Runtime's shared library, which it tells only when it is loaded.

use std::path::Path;

/// The two functions by which the library begins (`OrtApiBase` in its `onnxruntime_c_api.h`, the same in all versions).
#[cfg(unix)]
#[repr(C)]
struct ApiBase {
    get_api: Option<unsafe extern "C" fn(u32) -> *const libc::c_void>,
    get_version: Option<unsafe extern "C" fn() -> *const libc::c_char>,
}

/// Loads the library at `path` for the rest of the process and asks for its version (`1.32.0`), and whether it has the functions of
/// version 1.`api`. The code of the file runs with all
/// rights of this process, and a broken one may end it: callers do this in a process that may die.
///
/// # Errors
/// Why it cannot be loaded, or is another library; words that follow the path of the file.
#[cfg(unix)]
pub fn onnx_runtime_version(path: &Path, api: u32) -> Result<String, String> {
    use std::ffi::{CStr, CString};
    use std::os::unix::ffi::OsStrExt;

    // Without a slash the linker would look for the name in its own folders.
    let path = std::path::absolute(path).map_err(|e| format!("has no absolute path: {e}"))?;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| "is no path".to_owned())?;
    // SAFETY: `path` is a C string that lives through the call. That the file's initialisers do no harm cannot be shown, for this
    // library as little as for any other.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        // SAFETY: `dlerror` gives null or a C string that is valid until the thread's next call of a function of its family.
        let said = unsafe { libc::dlerror().as_ref().map(|s| CStr::from_ptr(s).to_string_lossy().into_owned()) };
        return Err(format!("cannot be loaded: {}", said.unwrap_or_else(|| "the linker does not say why".to_owned())));
    }
    // SAFETY: `handle` is a loaded library, which is never closed, and the name is a C string.
    let symbol = unsafe { libc::dlsym(handle, c"OrtGetApiBase".as_ptr()) };
    if symbol.is_null() {
        return Err("is no ONNX Runtime: it has no `OrtGetApiBase`".to_owned());
    }
    // SAFETY: by the library's header this symbol is a function of this type, which gives null or a pointer to two functions that
    // live as long as the library; the first gives null or a table of functions, the second null or a constant C string.
    let (version, functions) = unsafe {
        let base = std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> *const ApiBase>(symbol);
        let base = base().as_ref();
        let version = base.and_then(|base| base.get_version).map(|get| get());
        let version = version.and_then(|text| text.as_ref()).map(|text| CStr::from_ptr(text).to_string_lossy().into_owned());
        // One that is too old is not asked: it would write a complaint to stderr.
        let new_enough = version.as_deref().and_then(minor).is_some_and(|minor| minor >= api);
        (version, base.and_then(|base| base.get_api).filter(|_| new_enough).map(|get| get(api)))
    };
    match (version, functions) {
        (None, _) => Err("is no ONNX Runtime: it does not tell its version".to_owned()),
        (Some(version), Some(functions)) if !functions.is_null() => Ok(version),
        (Some(version), Some(_)) => Err(format!("is version {version} without the functions of 1.{api}")),
        (Some(version), None) => Err(format!("is version {version}, at least 1.{api} is needed")),
    }
}

/// The second number of a version.
#[cfg(unix)]
fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

/// Libraries are loaded on Unix only.
#[cfg(not(unix))]
pub fn onnx_runtime_version(_path: &Path, _api: u32) -> Result<String, String> {
    Err("cannot be loaded: this works on Unix only".to_owned())
}
