//! Compiles the C shim for constants of MPI that bindgen cannot see, with the compiler that
//! rsmpi's own shim is compiled with: both must speak of one MPI library.

fn main() {
    println!("cargo:rerun-if-changed=src/sys/shim.c");
    println!("cargo:rerun-if-env-changed=MPICC");
    let library = match build_probe_mpi::probe() {
        Ok(library) => library,
        Err(reasons) => {
            for reason in reasons {
                eprintln!("{reason}");
            }
            panic!("no MPI library was found: install libopenmpi-dev (scripts/setup does)");
        }
    };
    let mut build = cc::Build::new();
    match library.mpicc {
        Some(mpicc) => {
            build.compiler(mpicc);
        }
        None => {
            build.includes(&library.include_paths);
        }
    }
    build.file("src/sys/shim.c").compile("mpi_kernels_shim");
}
