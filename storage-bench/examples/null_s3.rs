//! A store in memory that checks nothing, to see what the client itself can do, and to try the
//! cases of object stores without a server or credentials:
//!
//! ```sh
//! cargo run --release -p storage-bench --example null_s3
//! storage-bench object_get --anonymous --bucket s3://bucket/x --endpoint http://127.0.0.1:PORT
//! ```
#![allow(dead_code, missing_docs)]

#[path = "../tests/s3/hostile.rs"]
mod hostile;

fn main() {
    let server = hostile::Hostile::start(|_, _| hostile::Spoil::No);
    println!("{}", server.endpoint);
    loop {
        std::thread::park();
    }
}
