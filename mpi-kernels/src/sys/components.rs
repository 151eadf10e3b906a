//! What Open MPI has selected, read from its own variables.

use std::ffi::{CStr, c_char, c_int};

/// The beginning of `mca_base_component_2_1_0_t` (opal/mca/mca.h of Open MPI 2 to 5): versions and
/// names of the architecture, the project, the framework and the component.
#[repr(C)]
struct Component {
    mca_version: [c_int; 3],
    project: [c_char; 16],
    project_version: [c_int; 3],
    framework: [c_char; 32],
    framework_version: [c_int; 3],
    name: [c_char; 64],
}

/// The name of the point-to-point layer that is in use: `ob1`, `cm`, `ucx`. `None` with another
/// library than Open MPI, or one whose structure is not the one known here.
#[must_use]
pub fn selected_pml() -> Option<String> {
    // SAFETY: the name is a C string; dlsym only looks it up among the loaded objects.
    let symbol = unsafe {
        libc::dlsym(
            libc::RTLD_DEFAULT,
            c"mca_pml_base_selected_component".as_ptr(),
        )
    };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: the variable of this name is a structure that begins with a component's description
    // in every Open MPI that has it, is aligned for its integers, and is not written to after
    // MPI_Init. All bit patterns are valid for integers and characters.
    let component = unsafe { &*symbol.cast::<Component>() };
    let known = component.mca_version[..2] == [2, 1]
        && text(&component.project)? == "ompi"
        && text(&component.framework)? == "pml";
    known.then(|| text(&component.name).map(str::to_owned))?
}

/// A C string in an array, if it ends there.
fn text(characters: &[c_char]) -> Option<&str> {
    // SAFETY: c_char and u8 have one size and alignment, and the length is that of the array.
    let bytes = unsafe { std::slice::from_raw_parts(characters.as_ptr().cast(), characters.len()) };
    CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()
}
