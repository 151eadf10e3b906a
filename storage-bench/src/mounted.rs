//! What a shared file system is and how it is mounted here: its type and options from mountinfo,
//! the read-ahead of its backing device, what an NFS client has asked of its server, and how
//! Lustre stripes the folder. Two results of one server differ by these more than by anything else.

use crate::target::unescape;
use reports::model::{Severity, Validity};
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the kernel's files are; tests replace it.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }
}

/// The mount that a path lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The file system's type.
    pub kind: String,
    /// What is mounted: a device, `server:/export`.
    pub source: String,
    /// Options of the mount and of the file system.
    options: Vec<String>,
}

/// Mount options of network file systems that change what is measured.
const TOLD: [&str; 14] = [
    "vers",
    "proto",
    "rsize",
    "wsize",
    "nconnect",
    "hard",
    "soft",
    "sync",
    "noac",
    "actimeo",
    "acregmin",
    "acregmax",
    "local_lock",
    "fsc",
];

/// What the source of a mount tells of the service behind it.
const SERVICES: [(&str, &str, &str); 4] = [
    ("nfs", ".efs.", "Amazon EFS"),
    (
        "nfs",
        "127.0.0.1:",
        "a local server or a proxy (EFS mount helper with TLS)",
    ),
    ("nfs", ".fsx.", "Amazon FSx"),
    (
        "lustre",
        "@tcp",
        "Lustre (Amazon FSx for Lustre, if the address is one of AWS)",
    ),
];

/// File systems that are memory.
const MEMORY: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];

/// Bytes that an NFS mount has moved, from `/proc/self/mountstats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NfsBytes {
    /// What programs read through the page cache.
    pub read: u64,
    /// What programs read past it.
    pub direct_read: u64,
    /// What the server sent.
    pub server_read: u64,
    /// What the server was sent.
    pub server_write: u64,
}

impl Mounted {
    /// Whether it is memory.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        MEMORY.contains(&self.kind.as_str())
    }

    /// Whether it is NFS.
    #[must_use]
    pub fn is_nfs(&self) -> bool {
        self.kind.starts_with("nfs")
    }

    fn options(&self) -> Map<String, Value> {
        let told = self.options.iter().filter_map(|option| {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = match value {
                "" => json!(true),
                value => value
                    .parse::<u64>()
                    .map_or_else(|_| json!(value), |number| json!(number)),
            };
            TOLD.contains(&name).then(|| (name.to_owned(), value))
        });
        told.collect()
    }

    fn service(&self) -> Option<&'static str> {
        let fits = |(kind, part, _): &&(&str, &str, &str)| {
            self.kind.starts_with(kind) && self.source.contains(part)
        };
        SERVICES.iter().find(fits).map(|(_, _, name)| *name)
    }
}

impl Kernel {
    /// The mount that a path lies in.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn mounted(&self, path: &Path) -> Result<Mounted, String> {
        let real = path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let file = self.proc.join("self/mountinfo");
        let text =
            fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mounts = text.lines().filter_map(parse_mount);
        // Of several mounts on one point the last one is visible.
        mounts
            .filter(|mount| real.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count())
            .ok_or_else(|| format!("no mount holds {}", real.display()))
    }

    /// What the report says of the file system below a folder.
    #[must_use]
    pub fn facts(&self, dir: &Path) -> Map<String, Value> {
        let mut facts = Map::new();
        let mounted = match self.mounted(dir) {
            Ok(mounted) => mounted,
            Err(why) => {
                facts.insert("file_system".to_owned(), json!({ "unavailable": why }));
                return facts;
            }
        };
        let mut put = |name: &str, value: Value| facts.insert(name.to_owned(), value);
        put("file_system", json!(mounted.kind));
        put("source", json!(mounted.source));
        let options = mounted.options();
        if !options.is_empty() {
            put("mount_options", Value::Object(options));
        }
        if let Some(service) = mounted.service() {
            put("service", json!(service));
        }
        put("read_ahead_bytes", self.read_ahead(dir));
        if mounted.kind == "lustre" {
            put("stripe", stripe(dir));
        }
        facts
    }

    /// How far the kernel reads ahead, of the backing device with the folder's device number.
    fn read_ahead(&self, dir: &Path) -> Value {
        let found = fs::metadata(dir).map_err(|error| error.to_string());
        let kib = found.and_then(|found| {
            let (major, minor) = (
                nix::sys::stat::major(found.dev()),
                nix::sys::stat::minor(found.dev()),
            );
            let file = self
                .sys
                .join(format!("class/bdi/{major}:{minor}/read_ahead_kb"));
            let text = fs::read_to_string(&file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            text.trim()
                .parse::<u64>()
                .map_err(|error| error.to_string())
        });
        match kib {
            Ok(kib) => json!(kib * 1024),
            Err(why) => json!({ "unavailable": why }),
        }
    }

    /// What the NFS client has moved for a mount; nothing if it is not NFS.
    #[must_use]
    pub fn nfs_bytes(&self, mounted: &Mounted) -> Option<NfsBytes> {
        if !mounted.is_nfs() {
            return None;
        }
        let text = fs::read_to_string(self.proc.join("self/mountstats")).ok()?;
        parse_mountstats(&text, &mounted.point)
    }

    /// Bytes that this process had fetched by the storage layer: what did not come from the page
    /// cache (`read_bytes` of proc(5)).
    #[must_use]
    pub fn fetched_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.proc.join("self/io")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("read_bytes:"))?;
        line.trim().parse().ok()
    }
}

/// `36 35 98:0 /root /point options - type source options`, with optional fields before the dash.
fn parse_mount(line: &str) -> Option<Mounted> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(4);
    let point = unescape(fields.next()?);
    let options = fields.next()?;
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = unescape(after.next()?);
    let all = options.split(',').chain(after.next()?.split(','));
    Some(Mounted {
        point: point.into(),
        kind,
        source,
        options: all.map(str::to_owned).collect(),
    })
}

/// The line `bytes:` of one mount: normal read, normal write, direct read, direct write, server
/// read, server write, pages read, pages written (nfs(5), mountstats(8)).
fn parse_mountstats(text: &str, point: &Path) -> Option<NfsBytes> {
    let mounted_on = format!(" mounted on {} with fstype nfs", point.display());
    let mut lines = text.lines().skip_while(|line| !line.contains(&mounted_on));
    lines.next()?;
    let bytes = lines
        .take_while(|line| !line.starts_with("device "))
        .find_map(|line| line.trim().strip_prefix("bytes:"))?;
    let numbers: Vec<u64> = bytes
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    Some(NfsBytes {
        read: *numbers.first()?,
        direct_read: *numbers.get(2)?,
        server_read: *numbers.get(4)?,
        server_write: *numbers.get(5)?,
    })
}

/// How Lustre stripes new files of a folder, in the words of its own tool.
fn stripe(dir: &Path) -> Value {
    match Command::new("lfs")
        .args(["getstripe", "-d"])
        .arg(dir)
        .output()
    {
        Ok(output) if output.status.success() => {
            Value::Object(parse_stripe(&String::from_utf8_lossy(&output.stdout)))
        }
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            json!({ "unavailable": format!("lfs getstripe: {why}") })
        }
        Err(error) => json!({ "unavailable": format!("lfs getstripe: {error}") }),
    }
}

/// `stripe_count:  4 stripe_size:   1048576 pattern: raid0 stripe_offset: -1`, on one line or many.
fn parse_stripe(text: &str) -> Map<String, Value> {
    let mut words = text.split_whitespace();
    let mut found = Map::new();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches("lmm_").trim_end_matches(':');
        if !matches!(
            name,
            "stripe_count" | "stripe_size" | "stripe_offset" | "pattern" | "pool"
        ) {
            continue;
        }
        if let Some(value) = words.next() {
            let number = value
                .parse::<i64>()
                .map_or_else(|_| json!(value), |number| json!(number));
            found.entry(name.to_owned()).or_insert(number);
        }
    }
    found
}

/// Flags what the mounts of the ranks mean for a result: memory, and mounts that differ.
pub fn flag<'a>(
    validity: &mut Validity,
    mut ranks: impl Iterator<Item = (&'a str, &'a Map<String, Value>)>,
) {
    let Some((first, of_first)) = ranks.next() else {
        return;
    };
    if let Some(kind) = of_first.get("file_system").and_then(Value::as_str)
        && MEMORY.contains(&kind)
    {
        let evidence = format!("the folder lies in {kind}, which is memory");
        validity.flag(Severity::Degraded, "memory_file_system", evidence);
    }
    // A server may have several names, and mounts of one node are the same for all its ranks.
    let differs = |(_, mounted): &(&str, &Map<String, Value>)| {
        ["file_system", "mount_options", "read_ahead_bytes"]
            .iter()
            .any(|name| mounted.get(*name) != of_first.get(*name))
    };
    if let Some((other, mounted)) = ranks.find(differs) {
        let told = |mounted: &Map<String, Value>| Value::Object(mounted.clone()).to_string();
        let evidence = format!(
            "the nodes mount it differently: {first} {}, {other} {}",
            told(of_first),
            told(mounted)
        );
        validity.flag(Severity::Degraded, "mounts_differ", evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFS: &str = "90 30 0:55 / /mnt/my\\040data rw,relatime shared:9 - nfs4 \
        fs-1.efs.eu-west-1.amazonaws.com:/ rw,vers=4.1,rsize=1048576,wsize=524288,namlen=255,hard,\
        proto=tcp,nconnect=4,timeo=600,retrans=2,sec=sys,clientaddr=10.0.0.1,local_lock=none,\
        addr=10.0.0.2";

    #[test]
    fn an_nfs_mount_tells_what_changes_a_result() {
        let mounted = parse_mount(NFS).expect("a mount");
        assert_eq!(mounted.point, Path::new("/mnt/my data"));
        assert!(mounted.is_nfs() && !mounted.is_memory());
        let options = Value::Object(mounted.options());
        let expected = json!({
            "vers": "4.1", "rsize": 1_048_576, "wsize": 524_288, "hard": true, "proto": "tcp",
            "nconnect": 4, "local_lock": "none",
        });
        assert_eq!(options, expected);
        assert_eq!(mounted.service(), Some("Amazon EFS"));
        assert_eq!(parse_mount("nonsense"), None);
    }

    #[test]
    fn the_innermost_mount_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("a/b").canonicalize();
        assert!(inner.is_err());
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("folders");
        let inner = inner.canonicalize().expect("it is there");
        fs::create_dir_all(root.path().join("self")).expect("a folder");
        let text = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {} rw - tmpfs none rw,size=1k\n",
            inner.display()
        );
        fs::write(root.path().join("self/mountinfo"), text).expect("a file");
        let kernel = Kernel {
            proc: root.path().to_owned(),
            sys: root.path().to_owned(),
        };
        assert!(kernel.mounted(&inner).expect("a mount").is_memory());
        assert_eq!(kernel.mounted(root.path()).expect("a mount").kind, "ext4");
        let facts = Value::Object(kernel.facts(&inner));
        assert!(facts["read_ahead_bytes"]["unavailable"].is_string());
        assert!(kernel.mounted(Path::new("/absent")).is_err());
    }

    #[test]
    fn mounts_that_differ_and_memory_are_flagged() {
        let mounted = |vers: &str, kind: &str| {
            let told = json!({"file_system": kind, "mount_options": {"vers": vers}});
            told.as_object().expect("a map").clone()
        };
        let codes = |ranks: &[(&str, &Map<String, Value>)]| {
            let mut validity = Validity::default();
            flag(&mut validity, ranks.iter().copied());
            let flags = validity.flags.into_iter();
            flags.map(|flag| flag.code).collect::<Vec<_>>()
        };
        let (old, new) = (mounted("3", "nfs"), mounted("4.2", "nfs"));
        assert!(codes(&[("a", &old), ("b", &old)]).is_empty());
        assert_eq!(
            codes(&[("a", &old), ("b", &old), ("c", &new)]),
            ["mounts_differ"]
        );
        assert_eq!(
            codes(&[("a", &mounted("", "tmpfs"))]),
            ["memory_file_system"]
        );
    }

    #[test]
    fn mountstats_tell_what_the_server_moved() {
        let text = "device proc mounted on /proc with fstype proc\n\
            device 10.0.0.2:/x mounted on /mnt/x with fstype nfs4 statvers=1.1\n\
            \topts:\trw,vers=4.2\n\
            \tbytes:\t100 200 30 40 130 240 5 6\n\
            device 10.0.0.2:/y mounted on /mnt/y with fstype nfs4 statvers=1.1\n\
            \tbytes:\t1 2 3 4 5 6 7 8\n";
        let bytes = parse_mountstats(text, Path::new("/mnt/x")).expect("its bytes");
        let expected = NfsBytes {
            read: 100,
            direct_read: 30,
            server_read: 130,
            server_write: 240,
        };
        assert_eq!(bytes, expected);
        assert_eq!(parse_mountstats(text, Path::new("/mnt")), None);
        assert_eq!(parse_mountstats(text, Path::new("/proc")), None);
    }

    #[test]
    fn stripes_of_lustre_are_read_in_both_forms() {
        let expected = json!({"stripe_count": 4, "stripe_size": 1_048_576, "pattern": "raid0",
            "stripe_offset": -1});
        let line = "stripe_count:  4 stripe_size:   1048576 pattern: raid0 stripe_offset: -1\n";
        assert_eq!(Value::Object(parse_stripe(line)), expected);
        let file = "/l/f\nlmm_stripe_count:  4\nlmm_stripe_size:   1048576\nlmm_pattern: raid0\n\
            lmm_layout_gen: 0\nlmm_stripe_offset: -1\n\tobdidx objid\n";
        assert_eq!(Value::Object(parse_stripe(file)), expected);
    }
}
