# shellcheck shell=bash
# What the batch scripts here share; sourced, not run.

die() {
    echo "hpc-bench: $*" >&2
    exit "${code:-1}"
}

# on_nodes COMMAND...: once on every node of the job, each line with the node's name before it.
on_nodes() {
    # shellcheck disable=SC2016 # the shell there is to expand it
    srun --ntasks-per-node=1 --ntasks="$SLURM_JOB_NUM_NODES" --label --mpi=none \
        sh -c 'echo "$(hostname) $(eval "$1")"' sh "$*" | sed 's/^ *[0-9]*: //'
}

# The programs, on a file system that every node sees.
find_programs() {
    local missing
    [ -n "${SLURM_JOB_ID:-}" ] || code=2 die "this is a batch script: sbatch $0"
    root=${HPC_BENCH:-$SLURM_SUBMIT_DIR}
    bin=${HPC_BENCH_BIN:-$root/target/release}
    missing=$(on_nodes "for p in $*; do [ -x '$bin'/\$p ] || echo \$p; done | paste -sd ' '" |
        awk 'NF > 1')
    [ -z "$missing" ] || code=3 die "not in $bin on every node: $(paste -sd ';' <<<"$missing")." \
        "Submit from the checkout, on a file system that all nodes see, or name it by HPC_BENCH"
    PATH=$bin:$PATH
    export PATH
}

# EFA where every node has it; TCP where none has; and no in between, which would be measured as if
# it were one thing.
choose_network() {
    local found with without locked
    # shellcheck disable=SC2016 # the shell there is to expand it
    found=$(on_nodes 'for d in /sys/class/infiniband/*/device/driver; do
        [ -e "$d" ] && basename "$(readlink -f "$d")"; done | sort -u | paste -sd " "')
    with=$(awk '{ for (i = 2; i <= NF; i++) if ($i == "efa") print $1 }' <<<"$found")
    without=$(awk '{ print $1 }' <<<"$found" | grep -vxF "$with" || true)
    if [ -z "$with" ]; then
        echo "network: TCP (no node has EFA)"
    elif [ -n "$without" ]; then
        die "EFA is on some nodes only, not on: $(paste -sd ' ' <<<"$without")." \
            "Choose one instance type (--constraint, --partition)"
    else
        locked=$(on_nodes 'ulimit -l' | awk '$2 != "unlimited" { print $1 }')
        [ -z "$locked" ] || die "memory cannot be locked without limit, as EFA needs, on:" \
            "$(paste -sd ' ' <<<"$locked")." \
            "See ulimit -l, /etc/security/limits.conf, and Slurm's PropagateResourceLimits"
        echo "network: EFA on every node"
        # By name, so that what is not there fails, and is not replaced by TCP without a word.
        export FI_PROVIDER=efa OMPI_MCA_pml=cm OMPI_MCA_mtl=ofi
    fi
    # TCP is for the start of the job, and where there is no EFA for its data; not over bridges.
    [ -n "${OMPI_MCA_btl_tcp_if_include:-}" ] ||
        export OMPI_MCA_btl_tcp_if_exclude=lo,docker0 OMPI_MCA_oob_tcp_if_exclude=lo,docker0
}

# The folder of results, on a file system that every node sees.
make_results() {
    results=${1:-$SLURM_SUBMIT_DIR/bench-results/${SLURM_JOB_NAME}_$SLURM_JOB_ID}
    mkdir -p "$results"
    echo "job $SLURM_JOB_ID on $SLURM_JOB_NUM_NODES nodes, $SLURM_NTASKS ranks: $SLURM_JOB_NODELIST"
    echo "results: $results"
}
