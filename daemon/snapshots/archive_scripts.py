"""Shell scripts of the helper containers: check, measure, archive, restore, delete. Used by `archives`.

Each script gets its arguments as `$1`, `$2` … and prints a JSON object as its last line. Volumes are mounted at
`/volume` (or below `/volumes`), the folder of the archives at `/archives`. File names in volumes are arbitrary bytes,
so the scripts run in the C locale and never split output at line ends.
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
# tar does not report that the disk is full, so error messages include the free bytes.
free_on() { df --block-size=1 --output=avail "$1" | tail -n 1; }
sum_of() { sum=$(sha256sum < "$1"); printf '%s' "${sum%% *}"; }
# The same options for writing, extracting and comparing.
tar() { command tar --numeric-owner --xattrs '--xattrs-include=*' --acls --force-local "$@"; }
"""

CHECK = _PRELUDE + "echo '{}'\n"

# Each entry adds headers to its content; sparse files count with the blocks they use. The bot keeps running, so files
# vanish while `du` reads them: it then reports an error but still prints the sum of all others. It prints no sum when
# the folder it is in vanishes, and is then repeated.
MEASURE = (
    _PRELUDE
    + """
used= attempt=1
while [ -z "$used" ]; do
  [ "$attempt" -le 20 ] || refuse "the volumes change too fast to be measured"
  used=$(du --summarize --block-size=1 /volumes) || true
  attempt=$((attempt + 1))
done
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

# A folder that the engine has just created is empty and readable by all users; a folder with contents keeps its mode.
# The archive gets its name only after it was completed, counted and flushed. tar leaves sockets out.
ARCHIVE = (
    _PRELUDE
    + """
archive="/archives/$1"
partial="$archive.partial"
trap 'rm -f -- "$partial"' EXIT
[ -n "$(ls -A /archives)" ] || chmod 0700 /archives
cd /volume
tar --create --format=posix --sparse --file="$partial" . ||
  refuse "the archive was not written; free bytes on that disk:" $(free_on /archives)
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

# Extracted entries could inherit the setgid bit of the root folder, so its mode is 0700 until tar sets the original.
# tar prints every difference it finds, so empty output means that volume and archive agree.
RESTORE = (
    _PRELUDE
    + """
archive="/archives/$1"
[ -f "$archive" ] || refuse "the archive is missing; the volume was not touched"
[ "$(sum_of "$archive")" = "$2" ] ||
  refuse "the SHA-256 of the archive differs from the recorded one; the volume was not touched"
cd /volume
find . -mindepth 1 -delete
chmod 00700 .
tar --extract --same-owner --same-permissions --file="$archive" ||
  refuse "the archive was not extracted; free bytes on the disk of the volume:" $(free_on .)
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
