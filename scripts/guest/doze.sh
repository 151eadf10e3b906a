# shellcheck shell=bash
# Waiting in a guest of scripts/lab, for what polls there; sourced, not run.

# doze N: N tenths of a second, without starting a process. An emulated one is dear, and would take
# from the CPU that a command is measured on.
exec {never}<> <(:)
doze() { read -rt "0.$1" -u "$never" || true; }
