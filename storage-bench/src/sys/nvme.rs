//! What an NVMe namespace says of itself, and the log pages of its controller.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

nix::ioctl_none!(
    /// `NVME_IOCTL_ID` of linux/nvme_ioctl.h.
    nvme_ioctl_id,
    b'N',
    0x40
);

/// The number of the namespace behind a device file.
///
/// # Errors
/// What the kernel says; `ENOTTY` if the file is no namespace's.
pub fn namespace_of(device: &File) -> io::Result<u32> {
    // SAFETY: this ioctl takes no argument and returns a number; files of other devices refuse it.
    let number = unsafe { nvme_ioctl_id(device.as_raw_fd()) }?;
    u32::try_from(number).map_err(io::Error::other)
}

/// `NVME_IOCTL_ADMIN_CMD`: _IOWR('N', 0x41, struct nvme_admin_cmd).
const ADMIN_COMMAND: libc::c_ulong = 0xC048_4E41;
const GET_LOG_PAGE: u8 = 0x02;
/// A controller that does not answer must not hold a run up; the kernel's own limit is a minute.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `struct nvme_passthru_cmd` of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Default)]
struct AdminCommand {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// Reads the log page `id` of namespace `nsid` into `page`, whose length is a multiple of 4.
///
/// # Errors
/// What the kernel says (EACCES without CAP_SYS_ADMIN, ENOTTY where this is no NVMe device), or
/// the NVMe status with which the controller refused.
pub fn log_page(device: &impl AsRawFd, id: u8, nsid: u32, page: &mut [u8]) -> io::Result<()> {
    let words = u32::try_from(page.len() / 4).map_err(io::Error::other)?;
    let last = words
        .checked_sub(1)
        .ok_or_else(|| io::Error::other("a log page has at least one word"))?;
    let mut command = AdminCommand {
        opcode: GET_LOG_PAGE,
        nsid,
        addr: page.as_mut_ptr() as u64,
        data_len: words * 4,
        // Number of words less one, in two halves.
        cdw10: u32::from(id) | (last & 0xffff) << 16,
        cdw11: last >> 16,
        timeout_ms: TIMEOUT.as_millis() as u32,
        ..AdminCommand::default()
    };
    // SAFETY: `command` is laid out as the kernel's structure (its size is in the request number
    // and checked by a test), and it names memory of `page`, at most its length, which the kernel
    // fills before the call returns. Another driver that knows this request number by chance would
    // see a structure of the same size.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), ADMIN_COMMAND, &raw mut command) };
    match status {
        0 => Ok(()),
        1.. => Err(io::Error::other(format!(
            "the controller refused it with NVMe status {status:#x}"
        ))),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_the_size_that_its_number_says() {
        assert_eq!(
            size_of::<AdminCommand>(),
            (ADMIN_COMMAND >> 16 & 0x3fff) as usize
        );
    }

    #[test]
    fn what_is_no_nvme_device_says_so() {
        let file = std::fs::File::open("/dev/null").expect("it is always there");
        let error = log_page(&file, 0xd0, 1, &mut [0; 512]).expect_err("no log there");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert!(log_page(&file, 0xd0, 1, &mut []).is_err());
    }

    #[test]
    fn a_controller_answers_for_the_pages_that_it_has() {
        let Ok(device) = std::fs::File::open("/dev/nvme0n1") else {
            println!("SKIPPED: no NVMe device that may be opened");
            return;
        };
        // SMART, of the whole controller: the temperature in Kelvin stands at its second byte.
        let mut smart = [0; 512];
        match log_page(&device, 0x02, u32::MAX, &mut smart) {
            Ok(()) => assert_ne!(smart[1..3], [0, 0], "{smart:?}"),
            Err(error) => println!("SKIPPED: {error}"),
        }
    }
}
