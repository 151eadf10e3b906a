//! Other MPI libraries than the one that the tests are built against: which binary runs with which
//! library's launcher, as the README has it.
//!
//! MPICH is the distribution's, with the binary that `scripts/mpi-libraries` builds. Others are
//! where a variable says, as a folder with `bin` and `lib`.

mod common;

use common::{PROGRAM, report, stderr};
use reports::model::Outcome;
use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cluster/local");

/// What `scripts/mpi-libraries` built in the profile of the tests, or why it is not there.
fn built_against_mpich() -> Result<PathBuf, String> {
    let profile = Path::new(PROGRAM).parent().expect("a folder");
    let target = profile.parent().expect("target is above the profile");
    let profile = profile.file_name().expect("it has a name");
    let program = target.join("mpich").join(profile).join("mpi-kernels");
    match program.exists() {
        true => Ok(program),
        false => Err("not built; scripts/mpi-libraries does".to_owned()),
    }
}

/// The folder in this variable, or that there is none.
fn folder(variable: &str) -> Result<PathBuf, String> {
    let path = env::var_os(variable).ok_or(format!("${variable} names no folder that has it"))?;
    let path = PathBuf::from(path);
    assert!(path.join("bin").is_dir(), "${variable}: no {path:?}/bin");
    Ok(path)
}

fn skip(what: &str, reason: &str) {
    println!("SKIPPED {what}: {reason}");
}

/// A library to run with.
struct Library {
    /// What its name begins with, as it says itself.
    name: &'static str,
    /// Its launcher.
    launcher: PathBuf,
    /// Where the launcher and its helpers are, if not on PATH.
    bin: Option<PathBuf>,
    /// Where the program finds it.
    lib: Vec<PathBuf>,
}

impl Library {
    fn in_folder(name: &'static str, launcher: &str, folder: &Path) -> Self {
        Self {
            name,
            launcher: folder.join("bin").join(launcher),
            bin: Some(folder.join("bin")),
            lib: vec![folder.join("lib")],
        }
    }

    /// With the variables that it takes.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let joined = |first: &[PathBuf], variable: &str| {
            let rest = env::var_os(variable).unwrap_or_default();
            let all = first.iter().cloned().chain(env::split_paths(&rest));
            env::join_paths(all).expect("no colon in the folders")
        };
        if let Some(bin) = &self.bin {
            command.env("PATH", joined(std::slice::from_ref(bin), "PATH"));
        }
        if !self.lib.is_empty() {
            command.env("LD_LIBRARY_PATH", joined(&self.lib, "LD_LIBRARY_PATH"));
        }
        command
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
            .env("PRTE_MCA_hwloc_default_binding_policy", "none")
            .env("OMPI_MCA_mpi_yield_when_idle", "1")
            .env("I_MPI_PIN", "0")
            .env("I_MPI_FABRICS", "shm");
        command
    }

    fn launch(&self, ranks: usize, program: &Path, args: &str) -> Output {
        let mut command = self.command("timeout");
        command.args(["-s", "KILL", "400"]).arg(&self.launcher);
        command.args(["-n", &ranks.to_string()]).arg(program);
        command.args(args.split(' '));
        command.output().expect("timeout starts: install coreutils")
    }

    /// Every kind of kernel is measured, verified, and says whose library it ran with.
    fn measures(&self, program: &Path) {
        for (ranks, args) in [
            (2, "latency -m 0:64K -i 20:5 -x 2 --json"),
            (2, "bw -m 64K:64K -W 8 -i 5 -x 1 --json"),
            (3, "allreduce -m 8:64K -i 10:5 -x 2 --json"),
            (3, "barrier -i 10 -x 2 --json"),
        ] {
            let output = self.launch(ranks, program, args);
            self.check(&output, args, ranks);
        }
        let refused = self.launch(3, program, "latency -m 5:1");
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        let said = stderr(&refused);
        assert_eq!(said.matches("larger than the largest").count(), 1, "{said}");
    }

    fn check(&self, output: &Output, args: &str, ranks: usize) {
        let said = stderr(output);
        assert_eq!(output.status.code(), Some(0), "{args}: {said}");
        for case in &report(output).cases {
            let Outcome::Measured(measurement) = &case.outcome else {
                panic!("{} was not measured: {:?}", case.key(), case.outcome);
            };
            assert_eq!(case.benchmark.params["ranks"], ranks);
            let library = measurement.facts["mpi_library"].as_str();
            let library = library.expect("it is known");
            assert!(library.starts_with(self.name), "{library}");
        }
    }

    /// The same across emulated nodes.
    fn measures_across_nodes(&self, mpi: &str, program: &Path) {
        let what = format!("{} across nodes", self.name);
        let args = "allreduce -m 8:64 -i 10 -x 2 --deadline 12 --json";
        let run = || {
            let mut command = self.command("bash");
            command.args([CLUSTER, "run", "--nodes", "3", "--mpi", mpi]);
            command.args(["--timeout", "400", "--"]).arg(program);
            // The launcher's own shared memory ends at the node.
            command.args(args.split(' ')).env_remove("I_MPI_FABRICS");
            command.output().expect("bash starts")
        };
        // MPICH 4.0 over UCX 1.13 hangs in MPI_Finalize now and then, where one rank waits for its
        // connections to close and the others for their launcher: a C program of four MPI calls does
        // so as well. Its runs end by the watchdog, and prove that much.
        let hung = |output: &Output| {
            mpi == "mpich" && stderr(output).contains("are in the end, MPI_Finalize")
        };
        let mut runs = std::iter::repeat_with(run).take(2);
        let Some(output) = runs.find(|output| !hung(output)) else {
            return skip(&what, "this library hangs in MPI_Finalize");
        };
        if output.status.code() == Some(3) {
            return skip(&what, stderr(&output).trim());
        }
        self.check(&output, args, 3);
        let report = report(&output);
        let names: Vec<_> = report.hosts.iter().map(|host| &host.name).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
    }
}

#[test]
fn built_against_mpich_it_runs_with_mpich() {
    let what = "the build against MPICH";
    let program = match built_against_mpich() {
        Ok(program) => program,
        Err(reason) => return skip(what, &reason),
    };
    let mpich = Library {
        name: "MPICH Version",
        launcher: "mpiexec.mpich".into(),
        bin: None,
        lib: Vec::new(),
    };
    let probe = mpich.launch(2, &program, "barrier -i 1 -x 0");
    let said = common::stdout(&probe);
    if said.contains("needs 2 ranks, there is 1") {
        // So does Ubuntu 24.04's: it was built for a launcher that it does not come with.
        return skip(
            what,
            "this mpiexec.mpich gives each rank a world of its own",
        );
    }
    mpich.measures(&program);
    mpich.measures_across_nodes("mpich", &program);
}

#[test]
fn built_against_open_mpi_4_it_runs_with_open_mpi_5() {
    let what = "Open MPI 5";
    match folder("MPI_KERNELS_OPENMPI5") {
        Err(reason) => skip(what, &reason),
        Ok(folder) => {
            let library = Library::in_folder("Open MPI v5.", "mpirun", &folder);
            library.measures(Path::new(PROGRAM));
            library.measures_across_nodes("openmpi", Path::new(PROGRAM));
        }
    }
}

/// MPICH and its kin have one ABI and two names for it: Debian's is called libmpich.so.12, theirs
/// libmpi.so.12.
fn under_debians_name(library: &mut Library, folder: &Path, links: &Path) {
    let theirs = folder.join("lib/libmpi.so.12");
    symlink(&theirs, links.join("libmpich.so.12")).expect("a link can be made");
    library.lib.insert(0, links.to_owned());
    // Through a link it does not find its own libraries, which PyPI's mpich has there.
    library.lib.push(folder.join("lib/mpich"));
}

#[test]
fn built_against_mpich_it_runs_with_its_kin() {
    for (what, name, launcher, variable) in [
        ("MPICH 5", "MPICH Version", "mpiexec", "MPI_KERNELS_MPICH5"),
        (
            "Intel MPI",
            "Intel(R) MPI",
            "mpiexec.hydra",
            "MPI_KERNELS_INTEL_MPI",
        ),
    ] {
        match (folder(variable), built_against_mpich()) {
            (Err(reason), _) | (_, Err(reason)) => skip(what, &reason),
            (Ok(folder), Ok(program)) => {
                let links = tempfile::tempdir().expect("a temporary folder");
                let mut library = Library::in_folder(name, launcher, &folder);
                under_debians_name(&mut library, &folder, links.path());
                library.measures(&program);
                library.measures_across_nodes("mpich", &program);
            }
        }
    }
}
