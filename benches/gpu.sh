#!/bin/sh
# What a graphics card does: the same logits as the processor, then how fast a model of Minitron-4B's shape with random
# weights is on it, in f16, q8_0 and q4_k. It takes a few minutes once the programs are built.
#
#   benches/gpu.sh            on a machine with an NVIDIA card, a driver and nvcc
#   benches/gpu.sh --small    with a model of 27 M parameters
#   benches/gpu.sh --cpu      with the processor in place of the card, to try the script itself; best with --small
#   benches/gpu.sh --emulated the logits alone, in the emulator of cards, after `cargo xtask cuda`
#
# NEMOTERMD and NEMOTERMD_CUDA name programs that are built already. 9 GB of the disk are needed for a while.
set -eu
cd "$(dirname "$0")/.."

card=
small=
emulated=
for option in "$@"; do
    case $option in
        --small) small=--small ;;
        --cpu) card='the processor' ;;
        --emulated) card='an emulator' emulated=yes ;;
        *) echo "gpu.sh: $option is neither --small nor --cpu nor --emulated" >&2; exit 2 ;;
    esac
done
cpu=${NEMOTERMD-target/release/nemotermd}
if [ -z "$card" ]; then
    if ! card=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1); then
        echo 'gpu.sh: nothing was measured: nvidia-smi finds no NVIDIA card here; --cpu tries the script without one' >&2
        exit 1
    fi
    gpu=${NEMOTERMD_CUDA-target/cuda/release/nemotermd}
    [ -x "$gpu" ] || cargo build --release --locked -p nemotermd --features cuda --target-dir target/cuda
elif [ -n "$emulated" ]; then
    gpu=target/cuda/nemotermd-cuda
    cargo xtask emulated --version >/dev/null
    export LD_LIBRARY_PATH="$PWD/target/cuda/emulator"
else
    gpu=$cpu
fi
[ -x "$cpu" ] || cargo build --release --locked -p nemotermd

work=$(mktemp -d "${TMPDIR:-target}/gpu-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
# Nothing that is set for daily use may change what is measured.
export XDG_CONFIG_HOME="$work/config"
unset NEMOTERM_MODEL NEMOTERM_GPU_MEMORY NEMOTERM_QUANTIZE NEMOTERM_THREADS

echo "card      $card"

# Two files of logits, one row a position. An accelerator computes in bf16 and rounds otherwise, so the numbers are alike and
# not equal: what must agree is their course over the vocabulary.
compare() {
    awk -v name="$1" '
        NR == FNR { cpu[++rows] = $0; next }
        {
            n = split(cpu[FNR], x, " ")
            if (n != NF || n < 2) { wrong = 1; exit }
            sx = sy = xx = yy = xy = 0; bx = by = 1
            for (i = 1; i <= n; i++) {
                y = $i
                if (y !~ /^-?[0-9]/ || x[i] !~ /^-?[0-9]/) { wrong = 1; exit }
                sx += x[i]; sy += y; xx += x[i] * x[i]; yy += y * y; xy += x[i] * y
                if (x[i] + 0 > x[bx] + 0) bx = i
                if (y + 0 > $by + 0) by = i
            }
            spread = (xx - sx * sx / n) * (yy - sy * sy / n)
            if (spread <= 0) { wrong = 1; exit }
            r = (xy - sx * sy / n) / sqrt(spread)
            if (FNR == 1 || r < least) least = r
            same += bx == by; seen++
        }
        END {
            if (wrong || seen == 0 || seen != rows) { print "logits    " name ": not the same shape, or no numbers"; exit 1 }
            printf "logits    %-26s least correlation %.5f, the same first choice %d of %d\n", name, least, same, seen
            exit least < 0.99
        }' "$2" "$3"
}

tokens=72,105,32,119,104,97,116,10,36,32,103,105,116,32,115,116,97,116,117,115,10,36,32,99
# One token in a pass has other kernels than many, and is recorded and replayed; five have those of eight.
agree() {
    "$cpu" model logits "$2" --tokens $tokens >"$work/cpu"
    for rows in 1 5 24; do
        "$gpu" model logits "$2" --tokens $tokens --at-once $rows --device accelerator >"$work/gpu"
        compare "$1, $rows at once" "$work/cpu" "$work/gpu" || failed=yes
    done
}

failed=
agree nemoterm-mini nemoterm-mini
for kind in f16 q8_0 q4_k; do
    cargo xtask synthetic "$work/small.gguf" $kind --small
    agree "random $kind" "$work/small.gguf"
done
rm -f "$work/small.gguf"
differs='gpu.sh: the card gives other logits than the processor, or was not used'
if [ -n "$emulated" ]; then
    [ -z "$failed" ] || { echo "$differs" >&2; exit 1; }
    exit
fi

field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$work/figures"; }
echo "weights   device  tokens/s  first token of 128, ms  3 after 128, ms  12 tokens after those, ms"
for kind in f16 q8_0 q4_k; do
    cargo xtask synthetic "$work/model.gguf" $kind $small
    "$gpu" bench --model "$work/model.gguf" --json >"$work/figures"
    rm -f "$work/model.gguf"
    printf '%-9s %-6s %9.1f %23.2f %16.2f %26.2f\n' $kind "$(field device)" "$(field tg64)" "$(field ttft128_cold_ms)" \
        "$(field ttft128_warm_ms)" "$(field completion12_warm_ms)"
    # What is queued kernel by kernel is slower, and says why.
    refusal=$(field not_recorded)
    [ "$refusal" = null ] || [ -z "$refusal" ] || echo "          not recorded: $refusal"
    # The program takes the processor where the card fails it.
    [ "$gpu" = "$cpu" ] || [ "$(field device)" = cuda ] || failed=yes
done
cat <<'END'
goals     RTX 4090: over 300 tokens/s in 4 bits, 25 ms to the first token of 128
          H100: over 350 tokens/s in 4 bits, 12 tokens after a warm prefix in under 50 ms
END
[ -z "$failed" ] || { echo "$differs" >&2; exit 1; }
