#!/bin/sh
# Installs nemoterm for the current user and hooks it into the shells: a release where one fits this machine, else what is
# built from the checkout this file lies in.
#
#   ./install.sh                install, hook into zsh, bash and fish where they are installed
#   ./install.sh --build        the same, always built from the checkout
#   ./install.sh --no-hooks     install only
#   ./install.sh --uninstall    take everything back
#
# PREFIX (default ~/.local) is where bin/ and lib/nemoterm/ lie. Running it again changes nothing that is already right.
# NEMOTERM_RELEASES is where a release's files lie; empty, there are none.
set -eu

# The release workflow writes here where its files lie.
releases=${NEMOTERM_RELEASES-}

prefix=${PREFIX:-$HOME/.local}
bin=$prefix/bin
lib=$prefix/lib/nemoterm
case $(uname -s) in Darwin) builtin=libnemoterm_bash.dylib ;; *) builtin=libnemoterm_bash.so ;; esac
begin='# >>> nemoterm >>>'
end='# <<< nemoterm <<<'
# Nothing, where this is read from a pipe: then $0 is a shell.
here=
if [ -f "$0" ] && [ "${0%.sh}" != "$0" ]; then here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd); fi
fish_hook=${XDG_CONFIG_HOME:-$HOME/.config}/fish/conf.d/nemoterm.fish
# Where these shells look by themselves; zsh has no such place.
fish_completions=${XDG_CONFIG_HOME:-$HOME/.config}/fish/completions/nemoterm.fish
bash_completions=${XDG_DATA_HOME:-$HOME/.local/share}/bash-completion/completions/nemoterm
man=$prefix/share/man/man1

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# A path as one word of a POSIX shell, zsh or bash.
quoted() { printf "'"; printf '%s' "$1" | sed "s/'/'\\\\''/g"; printf "'"; }

rc_file() {
    case $1 in
        zsh) printf '%s' "${ZDOTDIR:-$HOME}/.zshrc" ;;
        bash) printf '%s' "$HOME/.bashrc" ;;
    esac
}

# Takes our block out of a file; the rest stays as it is, byte for byte.
unhook_file() {
    [ -f "$1" ] && grep -qF "$begin" "$1" || return 0
    kept=$(mktemp)
    awk -v begin="$begin" -v end="$end" '$0 == begin { ours = 1; next } $0 == end { ours = 0; next } !ours' "$1" >"$kept"
    # Written through, so that a symbolic link, the owner and the mode stay.
    cat "$kept" >"$1"
    rm -f "$kept"
    say "unhooked      $1"
}

hook_file() {
    shell=$1 file=$2
    wanted="eval \"\$($(quoted "$bin/nemoterm") init $shell)\""
    if [ -f "$file" ] && grep -qF "$begin" "$file" && grep -qF "$wanted" "$file"; then
        say "hooked before $file"
        return 0
    fi
    unhook_file "$file"
    if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then printf '\n' >>"$file"; fi
    printf '%s\n%s\n%s\n' "$begin" "$wanted" "$end" >>"$file"
    say "hooked        $file"
}

hook_fish() {
    wanted="$(quoted "$bin/nemoterm") init fish | source"
    if [ -f "$fish_hook" ] && grep -qF "$wanted" "$fish_hook"; then
        say "hooked before $fish_hook"
        return 0
    fi
    mkdir -p "$(dirname "$fish_hook")"
    printf '%s\nstatus is-interactive; and %s\n' "$begin" "$wanted" >"$fish_hook"
    say "hooked        $fish_hook"
}

# Completions of our own commands and options.
completions() {
    mkdir -p "$(dirname "$2")"
    "$bin/nemoterm" completions "$1" >"$2"
    say "installed     $2"
}

uninstall() {
    if [ -x "$bin/nemoterm" ]; then
        "$bin/nemoterm" daemon uninstall || true
        "$bin/nemoterm" daemon stop || true
    fi
    for shell in zsh bash; do unhook_file "$(rc_file $shell)"; done
    if [ -f "$fish_hook" ]; then rm -f "$fish_hook"; say "unhooked      $fish_hook"; fi
    for file in "$fish_completions" "$bash_completions"; do
        if [ -f "$file" ]; then rm -f "$file"; say "removed       $file"; fi
    done
    rm -f "$man"/nemoterm.1 "$man"/nemoterm-*.1
    for program in nemoterm nemotermd nemotermd-cuda; do
        if [ -e "$bin/$program" ]; then rm -f "$bin/$program"; say "removed       $bin/$program"; fi
    done
    if [ -e "$lib/$builtin" ]; then
        rm -f "$lib/$builtin"
        rmdir "$lib" 2>/dev/null || true
        say "removed       $lib/$builtin"
    fi
    say 'Settings and logs are left: nemoterm/ in the configuration and the state directory.'
}

# A C compiler for the crates that hold C, and a Rust toolchain. Both come from the system's packages where
# they are missing and we may install them.
prepare() {
    if ! have cc; then
        package build-essential ||
            fail 'there is no C compiler' 'apt-get install build-essential; on macOS: xcode-select --install'
    fi
    if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
    if ! have cargo; then
        # Debian has it from 13 on, Ubuntu from 24.04 on.
        { package rustup ca-certificates && rustup default stable; } ||
            fail 'there is no Rust toolchain' 'install rustup (see rustup.rs), then run this again in a new shell'
    fi
    # What older systems have as a package is too old, and cargo would say so in the middle of much else.
    least=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$here/Cargo.toml")
    found=$(cd "$here" && cargo --version 2>/dev/null | cut -d ' ' -f 2)
    case $found in
        1.*)
            minor=${found#1.}
            if [ "${minor%%.*}" -lt "${least#1.}" ]; then
                fail "the Rust toolchain is $found, and $least or later is needed" \
                    'rustup update stable; where cargo is a package of the system, install rustup (see rustup.rs)'
            fi
            ;;
    esac
}

# Installs packages of a Debian. Its list of them may be old, or not there yet.
package() {
    as_root apt-get update -qq || true
    as_root apt-get install -y --no-install-recommends "$@"
}

as_root() {
    have apt-get || return 1
    if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo; then sudo "$@"; else return 1; fi
}

# Copied beside and renamed over, because a running program can't be written to.
place() {
    cp "$1" "$2.new"
    mv -f "$2.new" "$2"
    say "installed     $2"
}

fetch() {
    if have curl; then
        curl -fsSL --retry 2 --connect-timeout 10 -o "$2" "$1"
    elif have wget; then
        wget -q -O "$2" "$1"
    else
        return 1
    fi
}

sha256() {
    if have sha256sum; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

# Fetches an archive of the release into $from, checks it and unpacks it there; fails where there is no such archive, and
# ends everything where it is not what was published.
unpack() {
    wanted=$(awk -v name="$1" '$2 == name || $2 == "*" name { print $1 }' "$from/SHA256SUMS")
    [ -n "$wanted" ] && fetch "$releases/$1" "$from/$1" || return 1
    [ "$(sha256 "$from/$1")" = "$wanted" ] ||
        fail "$releases/$1 is not what was published: its SHA-256 is another" 'run it again; or build: ./install.sh --build'
    tar -xzf "$from/$1" -C "$from" || fail "$releases/$1 can't be unpacked" 'build instead: ./install.sh --build'
    rm -f "$from/$1"
}

# Puts a release that fits into $from; fails where none does.
release() {
    [ -n "$releases" ] || return 1
    target=$(uname -s | tr '[:upper:]' '[:lower:]' | sed 's/darwin/macos/')-$(uname -m | sed 's/arm64/aarch64/;s/amd64/x86_64/')
    if ! fetch "$releases/SHA256SUMS" "$from/SHA256SUMS" 2>/dev/null; then
        say "note          there is no release at $releases, or no network"
        return 1
    fi
    if ! unpack "nemoterm-$target.tar.gz"; then
        say "note          the release has nothing for $target"
        return 1
    fi
    # A system library may be older than the one it was built with.
    if ! "$from/nemoterm" --version >/dev/null 2>&1 || ! "$from/nemotermd" --version >/dev/null 2>&1; then
        say 'note          the release does not run on this system'
        return 1
    fi
    if have nvidia-smi && nvidia-smi >/dev/null 2>&1; then
        if ! unpack "nemoterm-cuda-$target.tar.gz"; then
            say "note          the release has no CUDA daemon for $target"
        elif ! why=$("$from/nemotermd-cuda" --version 2>&1); then
            # It is kept: once the libraries are there, it is taken.
            say "note          the CUDA daemon does not start here yet: $why"
        fi
    fi
}

# Copies the programs from where they were unpacked or built.
install_from() {
    mkdir -p "$bin" "$lib"
    place "$1/nemoterm" "$bin/nemoterm"
    place "$1/nemotermd" "$bin/nemotermd"
    # What shows suggestions in bash while one types. Without it bash shows them on a key.
    if [ -f "$1/$builtin" ]; then place "$1/$builtin" "$lib/$builtin"; fi
    # It does not start where there is no driver, so it is a program of its own.
    if [ -f "$1/nemotermd-cuda" ]; then place "$1/nemotermd-cuda" "$bin/nemotermd-cuda"; fi
    "$bin/nemoterm" man "$man"
}

build() {
    if [ -z "$here" ] || [ ! -f "$here/Cargo.toml" ]; then
        fail 'there is no release for this machine, and no checkout to build from' 'clone the repository and run its install.sh'
    fi
    prepare
    cd "$here"
    cargo build --release --locked --bin nemoterm
    cargo build --release --locked -p nemotermd
    cargo build --release --locked -p nemoterm-bash
    install_from target/release
    if have nvidia-smi && nvidia-smi >/dev/null 2>&1 && have nvcc; then
        # For the card that is here: its kind is asked of nvidia-smi, and with this kind only the kernels are compiled. A
        # release is for all cards from compute capability 8.0 on (see release.yml).
        cargo build --release --locked -p nemotermd --features cuda --target-dir target/cuda
        place target/cuda/release/nemotermd "$bin/nemotermd-cuda"
    elif have nvidia-smi; then
        say 'note          an NVIDIA driver is here but no nvcc: built for the CPU only'
    fi
}

hooks=yes
for option in "$@"; do
    case $option in
        --no-hooks) hooks=no ;;
        --build) releases= ;;
        --uninstall) uninstall; exit 0 ;;
        *) fail "what is $option?" 'known are --build, --no-hooks and --uninstall' ;;
    esac
done

from=$(mktemp -d)
trap 'rm -rf "$from"' EXIT
if release; then install_from "$from"; else build; fi
if [ $hooks = yes ]; then
    for shell in zsh bash; do
        if have $shell; then hook_file $shell "$(rc_file $shell)"; fi
    done
    if have fish; then hook_fish; completions fish "$fish_completions"; fi
    if have bash; then completions bash "$bash_completions"; fi
fi
# A daemon of the old build would go on answering.
if "$bin/nemoterm" daemon status >/dev/null 2>&1; then "$bin/nemoterm" daemon restart; fi
case :$PATH: in *:"$bin":*) ;; *) say "note          $bin is not on your PATH: call $bin/nemoterm, or add it" ;; esac
undo='./install.sh --uninstall'
# From a pipe there is no such file.
if [ -z "$here" ]; then undo='pipe it into: sh -s -- --uninstall'; fi
say "Done. Open a new shell and type; Right takes the suggestion. To undo: $undo"
