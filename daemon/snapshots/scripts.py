"""What runs inside the helper container. Each script gets its arguments as `$1`, `$2` … and reports on stdout.

Volumes are mounted at `/volume` (or below `/volumes`), the folder of the archives at `/archives`. Names in
volumes are arbitrary bytes, so everything runs in the C locale and nothing is ever split at line ends.
"""

from __future__ import annotations

_PRELUDE = """
set -eu
umask 077
export LC_ALL=C
refuse() { printf '%s\\n' "$*" >&2; exit 1; }
require() {
  case "$("$1" --version 2>&1)" in
    *"GNU $2"*) ;;
    *) refuse "the image lacks $1 of GNU $2; SNAPSHOT_IMAGE needs sh, GNU tar, findutils and coreutils" ;;
  esac
}
require tar tar
require find findutils
for program in sync du df stat sha256sum wc tail head mv rm chmod ls; do require "$program" coreutils; done
# tar tells how much it could not write, but not that the disk is full.
free_on() { df --block-size=1 --output=avail "$1" | tail -n 1; }
sum_of() { sum=$(sha256sum < "$1"); printf '%s' "${sum%% *}"; }
# One option each: what must hold for writing, extracting and comparing alike.
tar() { command tar --numeric-owner --xattrs '--xattrs-include=*' --acls --force-local "$@"; }
"""

CHECK = _PRELUDE + "echo '{}'\n"

# Every entry costs headers besides its content; sparse files count with what they really take. The bot is at work
# meanwhile, so files vanish under `du`, which then complains but still tells the sum of all others.
MEASURE = (
    _PRELUDE
    + """
used=$(du --summarize --block-size=1 /volumes) || [ -n "$used" ]
entries=$(find /volumes -printf x | wc -c)
printf '{"size": %s}\\n' $((${used%%[!0-9]*} + entries * 2048))
"""
)

FREE_SPACE = (
    _PRELUDE
    + """
printf '{"free": %s}\\n' $(free_on /archives)
"""
)

# A folder the engine has just made for the mount is empty and open to all; one with contents keeps its mode.
# The archive gets its name only when it is whole, counted and on the disk. tar leaves sockets out.
ARCHIVE = (
    _PRELUDE
    + """
archive="/archives/$1"
partial="$archive.partial"
trap 'rm -f -- "$partial"' EXIT
[ -n "$(ls -A /archives)" ] || chmod 0700 /archives
cd /volume
tar --create --format=posix --sparse --file="$partial" . ||
  refuse "the archive was not written; bytes left on that disk:" $(free_on /archives)
expected=$(find . ! -type s -printf x | wc -c)
entries=$(tar --list --quoting-style=escape --file="$partial" | wc -l)
[ "$entries" -eq "$expected" ] || refuse "the archive has $entries entries, the volume $expected"
sync "$partial"
size=$(stat --format=%s "$partial")
sum=$(sum_of "$partial")
mv -f -T -- "$partial" "$archive"
sync /archives
printf '{"size": %s, "entries": %s, "sha256": "%s"}\\n' "$size" "$entries" "$sum"
"""
)

# A setgid bit of the root folder could pass on to what is extracted into it, so the folder gives up its mode until
# tar sets the one it had. What tar compares it tells in words, so silence is the proof.
RESTORE = (
    _PRELUDE
    + """
archive="/archives/$1"
[ -f "$archive" ] || refuse "the archive is missing; the volume was not touched"
[ "$(sum_of "$archive")" = "$2" ] ||
  refuse "the archive is not the one that was written: its SHA-256 differs; the volume was not touched"
cd /volume
find . -mindepth 1 -delete
chmod 00700 .
tar --extract --same-owner --same-permissions --file="$archive" ||
  refuse "the archive was not extracted; bytes left on the disk of the volume:" $(free_on .)
differences=$(tar --compare --file="$archive" 2>&1) && [ -z "$differences" ] ||
  refuse "the restored volume differs from its archive: $(printf '%s' "$differences" | head -n 20)"
sync --file-system .
echo '{}'
"""
)

DELETE = (
    _PRELUDE
    + """
cd /archives
for file in "$@"; do rm -f -- "$file" "$file.partial"; done
sync .
echo '{}'
"""
)
