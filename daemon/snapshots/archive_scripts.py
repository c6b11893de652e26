"""Shell scripts of helper containers, with the functions that all of them share. Used by `archives`.

`snapshot_script` writes snapshots and `restore_script` restores them. Each script gets its arguments as `$1`, `$2` …
and prints a JSON object as its last line. File names in volumes are arbitrary bytes, so the scripts run in the C
locale and end names with NUL.

The snapshot of a volume is a folder with these files:

| File           | Content                                                                                     |
|----------------|---------------------------------------------------------------------------------------------|
| `base.tar`     | entries except folders, archived while the bot still ran; some of them are out of date        |
| `delta.tar`    | entries that the base lacks or has out of date; without a base all entries except folders     |
| `folders.tar`  | all folders                                                                                 |
| `folders`, `files` | records of all folders and of all other entries, as they were when the bot was stopped    |
| `base`         | records of the entries that a restore takes from `base.tar`                                 |
| `settled`      | records of the entries that had not changed for a while when the bot was stopped            |
| `sums`         | checksums of these files                                                                    |

A record is one line of `record` below, with the path as its last field. Records end with NUL and are sorted. Archives
contain their entries in the order of the records, but each folder comes after its subfolders.
"""

from __future__ import annotations

PRELUDE = r"""
set -eu
umask 077
export LC_ALL=C
refuse() { printf '%s\n' "$*" >&2; exit 1; }
require() {
  case "$("$1" --version 2>&1)" in
    *"GNU $2"*) ;;
    *) refuse "the image lacks $1 of GNU $2; SNAPSHOT_IMAGE needs sh, GNU tar, findutils, coreutils and lsattr" ;;
  esac
}
require_lsattr() {
  command -v lsattr > /dev/null ||
    refuse "the image lacks lsattr of e2fsprogs; SNAPSHOT_IMAGE needs sh, GNU tar, findutils, coreutils and lsattr"
}
require_programs() {
  require tar tar
  require find findutils
  require xargs findutils
  for program in sync du df b2sum sha256sum wc tail head mv rm chmod ls cat cut comm date dirname join mkdir nice \
    paste seq sleep sort tee tr; do require "$program" coreutils; done
}
# tar does not report that the disk is full, so error messages include the free bytes.
free_on() { df --block-size=1 --output=avail "$1" | tail -n 1; }
sum() { b2sum --length=256 | cut -d ' ' -f 1; }
# The same options for writing, extracting and comparing. Labels of SELinux follow from the folder.
tar() {
  ${priority:-command} tar --numeric-owner --xattrs '--xattrs-include=*' --xattrs-exclude=security.selinux --acls \
    --force-local --warning=no-timestamp "$@"
}
# Writes the entries that "$1" lists, in its order, to stdout. Further arguments are options of tar. Without the times
# of access and change, archives of equal entries are equal.
pack() {
  list=$1
  shift
  tar --create --format=posix --sparse --blocking-factor=128 "$@" \
    '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' \
    --no-recursion --null --no-unquote --files-from="$list" --file=-
}
record='%D %i %y %s %m %U %G %T@ %C@ %p\0'
folder_record='%D %i d 0 %m %U %G %T@ %C@ %p\0'
paths() { cut -z -d ' ' -f 10- "$1"; }
# Subfolders first: creating one changes the times of its parent, and tar has perhaps set those already.
folder_paths() { paths "$1" | sort -rz; }
# Without what a restore changes: device, inode and time of change.
restored_fields() { cut -z -d ' ' -f 3-8,10- "$1" | sort -z; }
count() { tr -cd '\0' < "$1" | wc -c; }
"""

CHECK = PRELUDE + "require_programs\nrequire_lsattr\necho '{}'\n"

FREE_SPACE = (
    PRELUDE
    + r"""
printf '{"free": %s}\n' $(free_on /archives)
"""
)

# Restores an archive of an earlier version of Flotilla: one file with its SHA-256. Extracted entries could inherit
# the setgid bit of the root folder, so its mode is 0700 until tar sets the original. tar prints every difference it
# finds, so empty output means that volume and archive agree.
RESTORE_FILE = (
    PRELUDE
    + r"""
archive="/archives/$1"
[ -f "$archive" ] || refuse "the archive is missing; the volume was not touched"
sum=$(sha256sum < "$archive")
[ "${sum%% *}" = "$2" ] ||
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
    PRELUDE
    + r"""
cd /archives
for name in "$@"; do rm -rf -- "$name" "$name.partial"; done
sync .
echo '{}'
"""
)
