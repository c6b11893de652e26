"""Shell script that restores volumes from snapshots of `snapshot_script`. Used by `archives`.

The script restores only what differs. An entry stays when its record, which contains its inode and its time of
change, is as it was when the bot was stopped, and when its last change was long enough before that to be
distinguishable from a later one. All other entries are removed or extracted again. Every folder is extracted, because
what happens inside changes its times.

Then the volume is verified: the records of all entries, the content of all extracted ones, and the attributes and
access lists of folders and of everything in the delta. If that finds a difference, the volume is restored once more
from the beginning, without keeping anything. A restore may be interrupted and repeated at any time.
"""

from __future__ import annotations

from daemon.snapshots.archive_scripts import PRELUDE

_FUNCTIONS = r"""
untouched='; the volume was not touched'
recorded_sum() { while read -r sum part; do [ "$part" != "$1" ] || echo "$sum"; done < "$archive/sums"; }
verify_part() {
  [ "$(sum < "$archive/$1")" = "$(recorded_sum "$1")" ] ||
    refuse "the checksum of $1 differs from the recorded one$untouched"
}
verify_snapshot() {
  [ -f "$archive/sums" ] || refuse "the archive is missing$untouched"
  [ "$(sum < "$archive/sums")" = "$1" ] ||
    refuse "the checksum of the archive differs from the recorded one$untouched"
  for part in moment folders files settled base folders.tar delta.tar; do verify_part "$part"; done
}
# Entries that stayed as they were: not if the clock was set back, because a time of change could then occur twice.
list_kept_entries() {
  if [ "$1" = settled ] && [ "$(date +%s)" -ge "$(cat "$archive/moment")" ]; then
    comm -z -12 "$archive/settled" "$work/files"
  fi
}
list_current_entries() {
  find . -type d -fprintf "$work/folders" "$folder_record" -o ! -type s -fprintf "$work/files" "$record"
  for list in folders files; do sort -z -o "$work/$list" "$work/$list"; done
}
plan() {
  list_current_entries
  list_kept_entries "$1" > "$work/kept"
  comm -z -23 "$archive/files" "$work/kept" > "$work/wanted"
  comm -z -12 "$work/wanted" "$archive/base" > "$work/from.base"
  comm -z -23 "$work/wanted" "$archive/base" > "$work/from.delta"
  for part in base delta; do paths "$work/from.$part" > "$work/$part.paths"; done
  comm -z -23 "$work/files" "$work/kept" > "$work/removed"
  paths "$work/removed" > "$work/removed.paths"
  folder_paths "$archive/folders" > "$work/folders.paths"
  sort -z "$work/folders.paths" > "$work/folders.sorted"
  paths "$work/folders" > "$work/current.paths"
  sort -z -o "$work/current.paths" "$work/current.paths"
  comm -z -23 "$work/current.paths" "$work/folders.sorted" > "$work/removed.folders"
}
remove_entries() {
  find . -mindepth 1 -type s -delete
  xargs -0 -r rm -f -- < "$work/removed.paths"
  if [ -s "$work/kept" ]; then
    xargs -0 -r rm -rf -- < "$work/removed.folders"
    # Extracted entries could inherit this bit from their folder, and tar would not remove it.
    find . -type d -perm -2000 -exec chmod 00700 {} +
  else
    find . -mindepth 1 -delete
    chmod 00700 .
  fi
}
# tar only warns about attributes that it cannot set.
extract() {
  part=$1
  shift
  messages=$(tar --extract --same-owner --same-permissions "$@" --file="$archive/$part.tar" 2>&1) &&
    [ -z "$messages" ] ||
    refuse "$part.tar was not extracted; free bytes on the disk of the volume:" $(free_on .) \
      "$(printf '%s' "$messages" | head -n 20)"
}
extract_entries() {
  [ ! -s "$2" ] || extract "$1" --same-order --null --no-unquote --files-from="$2"
}
refuse_difference() {
  [ -s "$2" ] || return 0
  differences=$(tar --compare --same-order --null --no-unquote --files-from="$2" --file="$archive/$1.tar" 2>&1) &&
    [ -z "$differences" ] ||
    refuse "the restored volume differs from its archive: $(printf '%s' "$differences" | head -n 20)"
}
# Archives of equal entries are equal, except that the holes of a file can be found at different places.
verify_volume() {
  list_current_entries
  for list in folders files; do
    restored_fields "$archive/$list" > "$work/expected"
    restored_fields "$work/$list" | comm -z -3 "$work/expected" - > "$work/differing"
    [ ! -s "$work/differing" ] ||
      refuse "the restored volume differs from its archive: $(tr '\0\t' '\n ' < "$work/differing" | head -n 20)"
  done
  [ "$(pack "$work/folders.paths" | sum)" = "$(recorded_sum folders.tar)" ] ||
    refuse "the attributes of a folder of the restored volume differ from its archive"
  comm -z -23 "$archive/files" "$archive/base" > "$work/delta"
  paths "$work/delta" > "$work/delta.all"
  [ "$(pack "$work/delta.all" | sum)" = "$(recorded_sum delta.tar)" ] || refuse_difference delta "$work/delta.all"
  refuse_difference base "$work/base.paths"
  if [ "$compare" = all ]; then
    paths "$archive/base" > "$work/base.all"
    refuse_difference base "$work/base.all"
  fi
}
attempt() {
  plan "$1"
  remove_entries
  extract_entries base "$work/base.paths"
  extract_entries delta "$work/delta.paths"
  extract folders
  verify_volume
}
restore() {
  archive="/archives/$2" work="/tmp/$1"
  mkdir "$work"
  cd "/volumes/$1"
  verify_snapshot "$3"
  plan settled
  # Verified before the first change, and only if it is needed.
  if [ -s "$work/from.base" ]; then verify_part base.tar; fi
  (attempt settled) &
  if ! wait $!; then
    [ -s "$work/kept" ] || exit 1
    untouched=
    [ ! -s "$archive/base" ] || verify_part base.tar
    (attempt everything) &
    wait $!
  fi
  sync --file-system .
}
"""

_MAIN = r"""
# The arguments: what to compare, `changed` or `all`; then the name and the checksum of the snapshot of each volume.
# The volumes are mounted at /volumes/1, /volumes/2 …
compare=$1
shift
number=0 started=
while [ $# -gt 0 ]; do
  number=$((number + 1))
  (restore "$number" "$1" "$2") &
  started="$started $!"
  shift 2
done
failed=
for pid in $started; do wait "$pid" || failed=yes; done
[ -z "$failed" ]
echo '{}'
"""

RESTORE = PRELUDE + _FUNCTIONS + _MAIN
