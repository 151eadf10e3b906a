//! Finding and loading libfabric.
//!
//! The layout of what `fi_getinfo` takes and gives depends on the version of the symbol, and a
//! newer library keeps the older symbols beside its own. So the versions that belong to the
//! layouts of [`crate::raw`] are asked for by name, with `dlvsym` of the GNU C library.

use crate::error::text;
use crate::raw::constants::FI_SUCCESS;
use crate::raw::structures::{FiFabricAttr, FiInfo, FidFabric};
use crate::signals;
use libc::{c_char, c_int, c_void};
use std::ffi::{CStr, CString};
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where libfabric is looked for, in this order: where the dynamic linker looks, then where the
/// installer of AWS's EFA software puts it on Amazon Linux and on Ubuntu.
pub const PLACES: [&str; 3] = [
    "libfabric.so.1",
    "/opt/amazon/efa/lib64/libfabric.so.1",
    "/opt/amazon/efa/lib/libfabric.so.1",
];

/// The version of the interface that is asked for: 1.18, or what the library has if that is less.
///
/// Later ones append fields to structures that this binding hands over (1.19 to the description of
/// memory, 1.20 to errors of completion queues). Before 1.18 the provider `efa` does not use the
/// RDMA engine of the first two generations of cards.
const NEWEST_INTERFACE: Version = Version {
    major: 1,
    minor: 18,
};

/// No usable libfabric on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);

/// A version of the library or of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The major number.
    pub major: u16,
    /// The minor number.
    pub minor: u16,
}

impl Version {
    /// Out of libfabric's packed form.
    #[must_use]
    pub fn unpack(packed: u32) -> Self {
        Self {
            major: (packed >> 16) as u16,
            minor: packed as u16,
        }
    }

    /// Into libfabric's packed form.
    #[must_use]
    pub fn pack(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

type GetInfo = unsafe extern "C" fn(
    u32,
    *const c_char,
    *const c_char,
    u64,
    *const FiInfo,
    *mut *mut FiInfo,
) -> c_int;

/// libfabric, loaded. It stays loaded until the process ends, because providers leave threads and
/// handlers behind.
#[derive(Debug)]
pub struct Library {
    /// The file that was loaded, as the dynamic linker knows it.
    pub path: PathBuf,
    /// The library's own version.
    pub version: Version,
    /// The version of the interface that this process asks for.
    pub interface: Version,
    pub(crate) getinfo: GetInfo,
    pub(crate) freeinfo: unsafe extern "C" fn(*mut FiInfo),
    pub(crate) dupinfo: unsafe extern "C" fn(*const FiInfo) -> *mut FiInfo,
    pub(crate) fabric:
        unsafe extern "C" fn(*mut FiFabricAttr, *mut *mut FidFabric, *mut c_void) -> c_int,
    strerror: unsafe extern "C" fn(c_int) -> *const c_char,
}

impl Library {
    /// Loads libfabric, or says again what came of the first try.
    ///
    /// # Errors
    /// It is nowhere, or lacks a symbol: where it was looked for, what the dynamic linker says of
    /// each place, and what to install.
    pub fn load() -> Result<&'static Self, Missing> {
        static LIBRARY: OnceLock<Result<Library, Missing>> = OnceLock::new();
        LIBRARY.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// libfabric's text for an error, given as a positive number.
    #[must_use]
    pub fn error_text(&self, code: i32) -> String {
        if code == FI_SUCCESS {
            return "no error was given".to_owned();
        }
        // SAFETY: the function takes any number, and returns text that is never freed.
        let text = unsafe { text((self.strerror)(code)) };
        text.unwrap_or_else(|| "unknown error".to_owned())
    }
}

fn open() -> Result<Library, Missing> {
    let _kept = signals::keep();
    let mut told = Vec::new();
    for place in PLACES {
        let name = CString::new(place).expect("the places hold no zero byte");
        // SAFETY: the name is text; loading runs the library's initialisers, as a program that
        // links to it would.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            told.push(linker_error());
            continue;
        }
        match Library::of(handle) {
            Ok(library) => return Ok(library),
            Err(error) => told.push(format!("{place}: {error}")),
        }
    }
    Err(Missing(format!(
        "no usable libfabric: looked for {} ({}); install the package libfabric1 (Debian, Ubuntu) \
         or libfabric (others), or AWS's EFA installer",
        PLACES.join(", "),
        told.join("; ")
    )))
}

impl Library {
    fn of(handle: *mut c_void) -> Result<Self, String> {
        let symbol = |name: &CStr, version: &CStr| {
            // SAFETY: the handle is open for ever, and both names are text.
            let address = unsafe { libc::dlvsym(handle, name.as_ptr(), version.as_ptr()) };
            if address.is_null() {
                return Err(linker_error());
            }
            Ok(address)
        };
        let version = symbol(c"fi_version", c"FABRIC_1.0")?;
        let getinfo = symbol(c"fi_getinfo", c"FABRIC_1.3")?;
        let freeinfo = symbol(c"fi_freeinfo", c"FABRIC_1.3")?;
        let dupinfo = symbol(c"fi_dupinfo", c"FABRIC_1.3")?;
        let fabric = symbol(c"fi_fabric", c"FABRIC_1.1")?;
        let strerror = symbol(c"fi_strerror", c"FABRIC_1.0")?;
        // SAFETY: these are the types of the functions of that name and version, which the test of
        // the layout holds the structures in them to.
        unsafe {
            let version =
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> u32>(version);
            let version = Version::unpack(version());
            Ok(Self {
                path: path_of(getinfo),
                version,
                interface: version.min(NEWEST_INTERFACE),
                getinfo: std::mem::transmute::<*mut c_void, GetInfo>(getinfo),
                freeinfo: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut FiInfo)>(
                    freeinfo,
                ),
                dupinfo: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*const FiInfo) -> *mut FiInfo,
                >(dupinfo),
                fabric: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(
                        *mut FiFabricAttr,
                        *mut *mut FidFabric,
                        *mut c_void,
                    ) -> c_int,
                >(fabric),
                strerror: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(c_int) -> *const c_char,
                >(strerror),
            })
        }
    }
}

/// The file that holds a function.
fn path_of(function: *mut c_void) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the structure is the call's to fill in; all zeroes is a valid one, with null names.
    let found = unsafe {
        libc::dladdr(function, found.as_mut_ptr());
        found.assume_init()
    };
    if found.dli_fname.is_null() {
        return PathBuf::from(PLACES[0]);
    }
    // SAFETY: the name belongs to the dynamic linker, and lives as long as the library is loaded.
    let name = unsafe { CStr::from_ptr(found.dli_fname) };
    PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

fn linker_error() -> String {
    // SAFETY: the text belongs to this thread until its next call to the dynamic linker, and is
    // copied before that.
    let text = unsafe { text(libc::dlerror()) };
    text.unwrap_or_else(|| "the dynamic linker says nothing".to_owned())
}
