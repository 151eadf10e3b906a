use super::table::{At, MAGICS};
use super::*;
use std::process::{Command, Stdio};

/// Large enough for every file system here (btrfs wants 109 MiB), and sparse.
const BYTES: u64 = 512 << 20;

/// A blank image with some bytes in it.
fn image(bytes: u64, content: &[(u64, &[u8])]) -> File {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(bytes).expect("a hole");
    for (at, bytes) in content {
        file.write_all_at(bytes, *at).expect("room");
    }
    file
}

fn found(file: &File, bytes: u64) -> Vec<&'static str> {
    let window = Window {
        file,
        start: 0,
        bytes,
    };
    find(&window).expect("a readable file")
}

#[test]
fn every_magic_is_found_where_it_stands() {
    for magic in MAGICS {
        let at = match magic.at {
            At::Start(at) => at,
            At::End(back) => BYTES - back,
        };
        let file = image(BYTES, &[(at, magic.bytes)]);
        assert_eq!(found(&file, BYTES), [magic.name], "{magic:?}");
    }
}

#[test]
fn looks_demand_sensible_neighbours() {
    let ext = |compat: u8, incompat: u8, ro_compat: u8| {
        let mut superblock = [0; 256];
        (superblock[0], superblock[0x38], superblock[0x39]) = (1, 0x53, 0xef);
        (superblock[0x5c], superblock[0x60], superblock[0x64]) = (compat, incompat, ro_compat);
        superblock
    };
    let mut bad_ext = ext(0, 0, 0);
    bad_ext[0x18] = 77;
    let mut label = [0; 512];
    label[..8].copy_from_slice(b"LABELONE");
    label[24..32].copy_from_slice(b"LVM2 001");
    let uberblock = 0x00ba_b10c_u64.to_le_bytes();
    let mut table = [0; 512];
    (table[446], table[450], table[510], table[511]) = (0x80, 0x83, 0x55, 0xaa);
    let mut protective = table;
    protective[450] = 0xee;
    let mut nonsense = table;
    nonsense[462] = 7;
    let raid = [0xfc, 0x4e, 0x2b, 0xa9];
    let cases: [(u64, &[u8], Option<&str>); 18] = [
        (1024, &ext(0, 2, 1), Some("ext2")),
        (1024, &ext(4, 2, 1), Some("ext3")),
        (1024, &ext(4, 0x42, 1), Some("ext4")),
        (1024, &ext(0, 8, 0), Some("jbd")),
        (1024, &bad_ext, None),
        (512, &label, Some("LVM2_member")),
        (1536, &label, Some("LVM2_member")),
        (BYTES - (64 << 10), &raid, Some("linux_raid_member")),
        (BYTES - 8192, &raid, Some("linux_raid_member")),
        ((128 << 10) + 5 * 1024, &uberblock, Some("zfs_member")),
        (BYTES - (200 << 10), &uberblock, None),
        (BYTES - (96 << 10), &uberblock, Some("zfs_member")),
        (1024, b"H+\0\x04", Some("hfsplus")),
        (1024, b"H+\0\x09", None),
        ((8 << 10) + 1372, &[0x54, 0x19, 0x01, 0x00], Some("ufs")),
        (0, &table, Some("dos")),
        (0, &protective, None),
        (0, &nonsense, None),
    ];
    for (at, bytes, expected) in cases {
        let file = image(BYTES, &[(at, bytes)]);
        let names: Vec<_> = expected.into_iter().collect();
        assert_eq!(found(&file, BYTES), names, "at {at}");
    }
}

#[test]
fn small_and_blank_and_random_devices_hold_nothing() {
    for bytes in [512, 4096, 65536, 1 << 20] {
        assert!(found(&image(bytes, &[]), bytes).is_empty(), "{bytes}");
    }
    // What this program itself leaves on a device must not ask for more permission the next time.
    let content = crate::workload::content::Content::new(7);
    let mut block = vec![0; 2 << 20];
    content.fill(&mut block, content.laid_out(0));
    let file = image(2 << 20, &[(0, &block)]);
    assert!(found(&file, 2 << 20).is_empty());
}

#[test]
fn every_name_is_known_and_others_are_not() {
    assert!(is_known("ext4") && is_known("gpt") && is_known("zfs_member") && is_known("xfs"));
    assert!(!is_known("") && !is_known("ext5") && !is_known("EXT4"));
}

/// Programs that make something on an image, and what it then holds.
const MAKERS: &[(&str, &str)] = &[
    ("ext2", "mkfs.ext2 -q -F image"),
    ("ext3", "mkfs.ext3 -q -F image"),
    ("ext4", "mkfs.ext4 -q -F image"),
    ("xfs", "mkfs.xfs -q image"),
    ("btrfs", "mkfs.btrfs -q image"),
    ("vfat", "mkfs.vfat -F 32 image"),
    ("vfat", "mkfs.vfat -F 16 image"),
    ("ntfs", "mkfs.ntfs -q -F -f image"),
    ("exfat", "mkfs.exfat image"),
    ("f2fs", "mkfs.f2fs -q image"),
    ("swap", "mkswap image"),
    ("gpt", "echo ,,L | sfdisk -q --label gpt image"),
    ("dos", "echo ,,L | sfdisk -q --label dos image"),
    (
        "crypto_LUKS",
        "echo secret | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 \
         --pbkdf-force-iterations 1000 image",
    ),
];

#[test]
fn what_real_programs_make_is_found_and_blkid_agrees() {
    let dir = tempfile::tempdir().expect("a folder");
    let shell = |command: &str| {
        Command::new("sh")
            .args(["-c", command])
            .env(
                "PATH",
                "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
            )
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("a shell")
    };
    for (name, command) in MAKERS {
        let file = File::create(dir.path().join("image")).expect("a file");
        file.set_len(BYTES).expect("a hole");
        let made = shell(command);
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            println!("SKIPPED: no image with {name}: {}", why.trim());
            continue;
        }
        let file = File::open(dir.path().join("image")).expect("still there");
        assert_eq!(found(&file, BYTES), [*name], "{command}");
        let blkid = shell("blkid -p -o value -s TYPE -s PTTYPE image");
        let theirs = String::from_utf8_lossy(&blkid.stdout).into_owned();
        if !blkid.status.success() {
            println!("SKIPPED: blkid was not asked of {name}");
        } else {
            assert!(theirs.lines().any(|line| line == *name), "{name}: {theirs}");
        }
    }
}
