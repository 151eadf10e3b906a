//! The table of magic bytes. Offsets and bytes are those of util-linux's libblkid, whose file is
//! named beside each group, except where another source is named. What is weaker than four bytes
//! gets a look that also demands sensible neighbours, so that random data is not taken for it.

use super::Window;
use std::io;

/// Where a magic stands.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// Bytes from the beginning.
    Start(u64),
    /// Bytes back from the end.
    End(u64),
}

/// Bytes that tell alone what is there.
#[derive(Debug, Clone, Copy)]
pub struct Magic {
    /// blkid's name, which users know.
    pub name: &'static str,
    pub at: At,
    pub bytes: &'static [u8],
}

const fn start(name: &'static str, at: u64, bytes: &'static [u8]) -> Magic {
    Magic {
        name,
        at: At::Start(at),
        bytes,
    }
}

const fn end(name: &'static str, back: u64, bytes: &'static [u8]) -> Magic {
    Magic {
        name,
        at: At::End(back),
        bytes,
    }
}

const KIB: u64 = 1 << 10;

/// See [`Magic`].
pub const MAGICS: &[Magic] = &[
    // partitions/gpt.c: the header is in the second sector and in the last, of 512 or 4096 bytes.
    start("gpt", 512, b"EFI PART"),
    start("gpt", 4096, b"EFI PART"),
    end("gpt", 512, b"EFI PART"),
    end("gpt", 4096, b"EFI PART"),
    // partitions/sgi.c, bsd.c (label in the second sector, or at byte 64 of the first)
    start("sgi", 0, &[0x0b, 0xe5, 0xa9, 0x41]),
    start("bsd", 512, &[0x57, 0x45, 0x56, 0x82]),
    start("bsd", 64, &[0x57, 0x45, 0x56, 0x82]),
    // superblocks/xfs.c, and its external log
    start("xfs", 0, b"XFSB"),
    start("xfs_external_log", 0, &[0xfe, 0xed, 0xba, 0xbe]),
    // superblocks/btrfs.c: the first copy, and the second at 64 MiB
    start("btrfs", 64 * KIB + 64, b"_BHRfS_M"),
    start("btrfs", (64 << 20) + 64, b"_BHRfS_M"),
    // superblocks/bcache.c: bcache, then bcachefs
    start(
        "bcache",
        4 * KIB + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba,
            0x6d, 0x81,
        ],
    ),
    start(
        "bcachefs",
        4 * KIB + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d,
            0xf7, 0xef,
        ],
    ),
    // superblocks/f2fs.c, erofs.c, squashfs.c, zonefs.c, cramfs.c
    start("f2fs", KIB, &[0x10, 0x20, 0xf5, 0xf2]),
    start("erofs", KIB, &[0xe2, 0xe1, 0xf5, 0xe0]),
    start("squashfs", 0, b"hsqs"),
    start("squashfs3", 0, b"sqsh"),
    start("zonefs", 0, b"SFOZ"),
    start("cramfs", 0, &[0x45, 0x3d, 0xcd, 0x28]),
    start("cramfs", 0, &[0x28, 0xcd, 0x3d, 0x45]),
    // superblocks/jfs.c, reiserfs.c
    start("jfs", 32 * KIB, b"JFS1"),
    start("reiserfs", 8 * KIB + 0x34, b"ReIsErFs"),
    start("reiserfs", 64 * KIB + 0x34, b"ReIsErFs"),
    start("reiserfs", 64 * KIB + 0x34, b"ReIsEr2Fs"),
    start("reiserfs", 64 * KIB + 0x34, b"ReIsEr3Fs"),
    start("reiser4", 64 * KIB, b"ReIsEr4"),
    // superblocks/gfs.c (one magic for both), ocfs.c (blocks of 512 to 4096 bytes)
    start("gfs2", 64 * KIB, &[0x01, 0x16, 0x19, 0x70]),
    start("ocfs2", KIB, b"OCFSV2"),
    start("ocfs2", 2 * KIB, b"OCFSV2"),
    start("ocfs2", 4 * KIB, b"OCFSV2"),
    start("ocfs2", 8 * KIB, b"OCFSV2"),
    start("ocfs", 8 * KIB, b"OracleCFS"),
    // superblocks/iso9660.c, udf.c
    start("iso9660", 32 * KIB + 1, b"CD001"),
    start("udf", 32 * KIB + 1, b"BEA01"),
    start("udf", 32 * KIB + 1, b"NSR02"),
    start("udf", 32 * KIB + 1, b"NSR03"),
    // superblocks/ntfs.c, exfat.c, refs.c, bitlocker.c
    start("ntfs", 3, b"NTFS    "),
    start("exfat", 3, b"EXFAT   "),
    start("ReFS", 0, b"\0\0\0ReFS\0"),
    start("BitLocker", 3, b"-FVE-FS-"),
    // superblocks/vfat.c: the names of its types in the boot sector
    start("vfat", 0x52, b"FAT32   "),
    start("vfat", 0x52, b"MSWIN"),
    start("vfat", 0x36, b"FAT16   "),
    start("vfat", 0x36, b"FAT12   "),
    start("vfat", 0x36, b"MSDOS"),
    start("vfat", 0x36, b"FAT     "),
    // superblocks/apfs.c, vmfs.c (a file system, and a member of a volume)
    start("apfs", 32, b"NXSB"),
    start("VMFS", 2 << 20, &[0x5e, 0xf1, 0xab, 0x2f]),
    start("VMFS_volume_member", 1 << 20, &[0x0d, 0xd0, 0x01, 0xc0]),
    // superblocks/luks.c: both copies of LUKS2, whose second has several places
    start("crypto_LUKS", 0, b"LUKS\xba\xbe"),
    start("crypto_LUKS", 16 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 32 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 64 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 128 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 256 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 512 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 1024 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 2048 * KIB, b"SKUL\xba\xbe"),
    start("crypto_LUKS", 4096 * KIB, b"SKUL\xba\xbe"),
    // superblocks/lvm.c: physical volumes of LVM2 are a look; snapshots, verity and integrity
    start("DM_snapshot_cow", 0, b"SnAp"),
    start("DM_verity_hash", 0, b"verity\0\0"),
    start("DM_integrity", 0, b"integrt\0"),
    start("LVM1_member", 0, &[b'H', b'M', 1, 0]),
    start("LVM1_member", 0, &[b'H', b'M', 2, 0]),
    // superblocks/linux_raid.c: 1.1 at the start, 1.2 after 4 KiB; 0.90 and 1.0 are looks
    start("linux_raid_member", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    start("linux_raid_member", 4 * KIB, &[0xfc, 0x4e, 0x2b, 0xa9]),
    // superblocks/isw_raid.c, ddf_raid.c
    end("isw_raid_member", 1024, b"Intel Raid ISM Cfg Sig. "),
    end("ddf_raid_member", 512, &[0xde, 0x11, 0xde, 0x11]),
    end("ddf_raid_member", 512, &[0x11, 0xde, 0x11, 0xde]),
    // superblocks/drbd.c: metadata of 8.0 and later begins 4 KiB before the end, the magic 60 in
    end("drbd", 4096 - 60, &[0x83, 0x74, 0x02, 0x6c]),
    end("drbd", 4096 - 60, &[0x83, 0x74, 0x02, 0x6b]),
    end("drbd", 4096 - 60, &[0x83, 0x74, 0x02, 0x6d]),
    // superblocks/stratis.c, vdo.c, bluestore.c
    start("stratis", 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    start("stratis", 9 * 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    start("vdo", 0, b"dmvdo001"),
    start("ceph_bluestore", 0, b"bluestore block device"),
    // Oracle ASM's driver (oracleasm's asmdisk.h)
    start("oracleasm", 32, b"ORCLDISK"),
    // superblocks/swap.c: at the end of the first page, whose size differs between machines
    start("swap", 4 * KIB - 10, b"SWAPSPACE2"),
    start("swap", 8 * KIB - 10, b"SWAPSPACE2"),
    start("swap", 16 * KIB - 10, b"SWAPSPACE2"),
    start("swap", 32 * KIB - 10, b"SWAPSPACE2"),
    start("swap", 64 * KIB - 10, b"SWAPSPACE2"),
    start("swap", 4 * KIB - 10, b"SWAP-SPACE"),
    start("swsuspend", 4 * KIB - 10, b"S1SUSPEND"),
    start("swsuspend", 4 * KIB - 10, b"S2SUSPEND"),
];

/// A look that finds one of some things.
type Look = fn(&Window<'_>) -> io::Result<Option<&'static str>>;

/// What takes more than a comparison, with the names that may come of it.
pub const LOOKS: &[(&[&str], Look)] = &[
    (&["ext2", "ext3", "ext4", "jbd"], ext),
    (&["LVM2_member"], lvm2),
    (&["linux_raid_member"], raid_at_the_end),
    (&["zfs_member"], zfs),
    (&["hfs", "hfsplus"], hfs),
    (&["nilfs2"], nilfs2),
    (&["minix"], minix),
    (&["ufs"], ufs),
    (&["dos"], dos),
];

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at + 2)?;
    Some(u16::from_le_bytes(word.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// superblocks/ext.c; Lustre's ldiskfs is ext4. Offsets within the superblock are those of the
/// kernel's `struct ext4_super_block`.
fn ext(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    let superblock = window.read(KIB, 256)?;
    let word = |at| u32_at(&superblock, at).unwrap_or(0);
    let sensible = word(0) > 0 && word(0x18) <= 6 && word(0x4c) <= 1;
    if u16_at(&superblock, 0x38) != Some(0xef53) || !sensible {
        return Ok(None);
    }
    let (compat, incompat, ro_compat) = (word(0x5c), word(0x60), word(0x64));
    let journal_device = incompat & 0x8 != 0;
    // Extents and everything younger; huge_file and everything younger.
    let modern = incompat & !0x1f != 0 || ro_compat & !0x7 != 0;
    Ok(Some(match (journal_device, modern, compat & 0x4 != 0) {
        (true, ..) => "jbd",
        (_, true, _) => "ext4",
        (_, _, true) => "ext3",
        _ => "ext2",
    }))
}

/// superblocks/lvm.c: the label is in one of the first four sectors.
fn lvm2(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    let sectors = window.read(0, 4 * 512)?;
    let mut sectors = sectors.chunks(512);
    let labelled = sectors
        .any(|sector| sector.starts_with(b"LABELONE") && sector[24..].starts_with(b"LVM2 001"));
    Ok(labelled.then_some("LVM2_member"))
}

/// superblocks/linux_raid.c: version 0.90 in the last but one whole 64 KiB, version 1.0 8 to 12 KiB
/// before the end.
fn raid_at_the_end(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    let old = (window.bytes & !0xffff).checked_sub(64 * KIB);
    let new = (window.bytes / 512)
        .checked_sub(16)
        .map(|sector| (sector & !7) * 512);
    for at in [old, new].into_iter().flatten() {
        let magic = window.read(at, 4)?;
        if magic == [0xfc, 0x4e, 0x2b, 0xa9] || magic == [0xa9, 0x2b, 0x4e, 0xfc] {
            return Ok(Some("linux_raid_member"));
        }
    }
    Ok(None)
}

/// superblocks/zfs.c: four labels of 256 KiB, two at each end, each with a ring of uberblocks in
/// its second half.
fn zfs(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    const LABEL: u64 = 256 * KIB;
    let whole = window.bytes / LABEL * LABEL;
    let labels = [
        Some(0),
        Some(LABEL),
        whole.checked_sub(2 * LABEL),
        whole.checked_sub(LABEL),
    ];
    for label in labels.into_iter().flatten() {
        let ring = window.read(label + LABEL / 2, (LABEL / 2) as usize)?;
        let little = 0x00ba_b10c_u64.to_le_bytes();
        let big = 0x00ba_b10c_u64.to_be_bytes();
        let mut uberblocks = ring.chunks(1024);
        if uberblocks.any(|block| block.starts_with(&little) || block.starts_with(&big)) {
            return Ok(Some("zfs_member"));
        }
    }
    Ok(None)
}

/// superblocks/hfs.c: two letters and, for HFS+, version 4 or 5; HFS has its bitmap at block 3.
fn hfs(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    let header = window.read(KIB, 16)?;
    Ok(match header.get(..4) {
        Some(b"H+\0\x04" | b"HX\0\x05") => Some("hfsplus"),
        Some([b'B', b'D', ..]) if header.get(14..16) == Some(&[0, 3]) => Some("hfs"),
        _ => None,
    })
}

/// superblocks/nilfs.c: the magic, and revision 2.
fn nilfs2(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    let superblock = window.read(KIB, 8)?;
    let is_one = u32_at(&superblock, 0) == Some(2) && u16_at(&superblock, 6) == Some(0x3434);
    Ok(is_one.then_some("nilfs2"))
}

/// superblocks/minix.c: the magics of versions 1 and 2, with a state that is clean or has errors
/// and zones of one block.
fn minix(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    let superblock = window.read(KIB, 20)?;
    let magic = matches!(
        u16_at(&superblock, 16),
        Some(0x137f | 0x138f | 0x2468 | 0x2478)
    );
    let sensible = u16_at(&superblock, 10) == Some(0) && u16_at(&superblock, 18) <= Some(3);
    Ok((magic && sensible).then_some("minix"))
}

/// superblocks/ufs.c: six magics in either order of bytes, in one of four places.
fn ufs(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    const MAGICS: [u32; 6] = [
        0x0001_1954,
        0x1954_0119,
        0x0019_5612,
        0x0009_5014,
        0x0061_2195,
        0x0523_1994,
    ];
    for kib in [0, 8, 64, 256] {
        let magic = window.read(kib * KIB + 1372, 4)?;
        let Some(magic) = u32_at(&magic, 0) else {
            continue;
        };
        if MAGICS.contains(&magic) || MAGICS.contains(&magic.swap_bytes()) {
            return Ok(Some("ufs"));
        }
    }
    Ok(None)
}

/// partitions/dos.c: four entries whose first byte says bootable or not. Boot sectors of FAT, NTFS
/// and exFAT have the same last bytes, and a GPT has such a table for the sake of old tools.
fn dos(window: &Window<'_>) -> io::Result<Option<&'static str>> {
    let sector = window.read(0, 512)?;
    if sector.get(510..) != Some(&[0x55, 0xaa]) {
        return Ok(None);
    }
    let boot_sector = [&b"FAT"[..], b"MSDOS", b"MSWIN", b"NTFS", b"EXFAT"];
    let named = |at: usize| {
        boot_sector
            .iter()
            .any(|name| sector[at..].starts_with(name))
    };
    let mut entries = sector[446..510].chunks(16);
    let plausible = entries.clone().all(|entry| matches!(entry[0], 0 | 0x80));
    let protective = entries.any(|entry| entry[4] == 0xee);
    let is_table = plausible && !protective && ![3, 0x36, 0x52].into_iter().any(named);
    Ok(is_table.then_some("dos"))
}
