# Shared by the scripts; sourced, not run.

# rustup puts cargo here, and a fresh install is not on this shell's PATH yet.
case ":$PATH:" in
*":${CARGO_HOME:-$HOME/.cargo}/bin:"*) ;;
*) PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH" ;;
esac
export PATH

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# What is wrong with the Rust toolchain, or nothing.
rust_problem() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! found=$(cargo --version 2>/dev/null | awk '{ print $2 }') || [ -z "$found" ]; then
        echo "Rust $wanted or newer (no cargo was found)"
    elif [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        echo "Rust $wanted or newer (cargo is $found)"
    fi
}
