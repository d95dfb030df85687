# Programs out of Debian's packages, unpacked, not installed: what the installers beside this file share. Sourced.
#
# apt works in a private folder inside DEST with the mirror that this machine already uses, so the system's sources,
# lists and packages stay as they are, and no root is needed. apt checks the archive's signature; each .deb is checked
# against the SHA256 signed there.
# shellcheck shell=bash

say() { printf 'stack: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Makes ready what the functions below need: `dest` absolute, `cache`, and `work`, which goes away with the script.
# $1 are the programs, for who has no Debian, and $2 the name of the lock. It returns with the lock held.
prepare() {
    local tool
    for tool in apt-get apt-cache dpkg dpkg-deb sha256sum flock timeout; do
        command -v "$tool" >/dev/null || die "$tool is missing: this needs a Debian machine;" \
            "elsewhere put $1 into one folder and name it in BAROGRAPH_STACK_BIN"
    done
    for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg} ''; do [[ ! -e $keyring ]] || break; done
    [[ -n $keyring ]] || die "Debian's archive keys are missing: install the package debian-archive-keyring"

    { mkdir -p "$dest/bin" && [[ -w $dest/bin ]]; } 2>/dev/null || die "$dest cannot be written: name another DEST"
    dest=$(cd "$dest" && pwd)
    cache=${XDG_CACHE_HOME:-${HOME:-$dest}/.cache}/barograph-stack
    # A service account may have a home that does not exist.
    { mkdir -p "$cache" && [[ -w $cache ]]; } 2>/dev/null || { cache=$dest/cache && mkdir -p "$cache"; }
    cache=$(cd "$cache" && pwd)

    # Two test runs may start at once: whoever comes second finds the work done.
    exec 9>"$cache/$2"
    flock -w 600 9 || die "another run has held $cache/$2 for ten minutes: end it, then try again"

    work=$(mktemp -d "$dest/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/{sources,lists/partial,cache/archives/partial,debs,root}

    # A file rather than -o options, because only a file can clear a list: the machine's hooks would run as part of our
    # update, and containers use them to delete files of the system's own cache. Everything else that the machine's
    # configuration says, such as a proxy or the tolerance for a frozen mirror's expired index, is kept.
    cat >"$work/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT { Default-Release ""; Sandbox::User "root"; Update::Error-Mode "any"; Get::AllowUnauthenticated "false"; };
Acquire { AllowInsecureRepositories "false"; Languages "none"; IndexTargets::deb::DEP-11::DefaultEnabled "false"; };
Acquire { Retries "2"; http::Timeout "20"; https::Timeout "20"; };
Dir::Etc { sourcelist "/dev/null"; sourceparts "$work/sources"; preferences "/dev/null"; preferencesparts "/dev/null"; };
Dir { State::status "/dev/null"; State::lists "$work/lists"; Cache "$work/cache"; };
CONF
}

# Asks mirror $2 what suite $1 has. From here on, functions are called in conditions, where bash ignores `set -e`.
update() {
    printf '%s\n' "Types: deb" "URIs: $2" "Suites: $1" "Components: main" "Signed-By: $keyring" \
        "Architectures: $(dpkg --print-architecture)" >"$work/sources/stack.sources"
    timeout 120 apt-get -qq -c "$work/apt.conf" update
}

# Leaves these packages of the suite that was asked in folder $1, with their sums and without any others.
download() {
    local kept=$1 deb
    shift
    # A line reads 'URI' FILE SIZE SHA256:SUM, out of the signed index.
    apt-get -qq -c "$work/apt.conf" download --print-uris "$@" >"$work/uris" || return 1
    sed -nE "s/^'.*' ([^ ]+) [0-9]+ SHA256:([0-9a-f]{64})$/\2  \1/p" "$work/uris" >"$work/SHA256SUMS"
    [[ $# -gt 0 && $(wc -l <"$work/SHA256SUMS") == "$#" ]] || { echo "E: the index gives no SHA256"; return 1; }
    mkdir -p "$kept"
    (cd "$kept" && sha256sum -c --status "$work/SHA256SUMS") || {
        cd "$work/debs" && timeout 900 apt-get -qq -c "$work/apt.conf" download "$@" &&
            sha256sum -c --quiet "$work/SHA256SUMS" && mv -f -- *.deb "$kept/"
    } && mv -f "$work/SHA256SUMS" "$kept/" || return 1
    for deb in "$kept"/*.deb; do grep -qF "  ${deb##*/}" "$kept/SHA256SUMS" || rm -f "$deb"; done
}

# The first line of the log of what failed that is an error, or else its last line.
reason() { grep -m 1 '^E:' "$work/log" || tail -n 1 "$work/log"; }

# Leaves the packages of suite $1 that `packages` prints in folder $2 of the cache, from a mirror or from an earlier run;
# otherwise fails, and `failure` says why. `updated` says whether a mirror has answered.
obtain() {
    local mirrors mirror because reasons=
    updated=
    # Printing what an update would fetch asks no network and works on an image that has dropped its package lists.
    # Other vendors' addresses end in /debian too, so each is tried: only Debian's own carries Debian's signature.
    mirrors=$(apt-get update --print-uris 2>/dev/null |
        sed -nE "s#^'(.*/debian([/.].*)?)/dists/[^']+/InRelease' .*#\1#p" | sort -u)
    for mirror in $mirrors; do
        # shellcheck disable=SC2046  # One word is one package.
        if (update "$1" "$mirror" && download "$cache/$2" $(packages)) >"$work/log" 2>&1; then
            # shellcheck disable=SC2034  # The callers ask.
            updated=yes
            return
        fi
        because=$(reason)
        reasons+="${reasons:+; }${because:-$mirror gave no answer in time}"
    done
    # shellcheck disable=SC2034  # The callers say it.
    failure="$1 cannot be had (${reasons:-apt sources name no Debian mirror}): give apt a Debian mirror that answers"
    (cd "$cache/$2" && sha256sum -c --status SHA256SUMS) 2>/dev/null || return 1
    say "using the copy in $cache/$2, because $failure"
}

# Unpacks every package of folder $1 into $work/root.
unpack() {
    local deb
    for deb in "$1"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --exclude=./usr/share/doc || return 1
    done
}
