"""Shell script that takes the snapshots of all volumes of an update, in two passes. Used by `snapshot_taker`.

The first pass writes the base of each volume while the bot runs, the second pass adds what changed after that. The
script prints one line of JSON for each of its parts (inspection, base, snapshots). It waits for SIGUSR1 before the
base and for SIGUSR2 before the snapshots.

An entry may come from the base only if the base has it exactly as it is when the bot has stopped:

- The record of the entry, which contains its inode and its time of change, is the same before the base was written,
  after that, and when the bot has stopped. No program in a container can set the time of change.
- The entry had not changed for `margin` seconds when the base began, because two changes within one tick of the
  clock are indistinguishable.
- The data of the file system was flushed after that moment. Writing again to a dirty page of a file in memory changes
  no time; the first write to a clean page does.
- Its folders were not moved while the base was written, because the path could have led to another entry. Moving a
  folder changes its own record and that of its parent. XFS does not change the record of an entry that is exchanged
  with another one of the same folder, so there every change of a folder counts.
- It has no other hard links, whose names could be in the other archive, and no name that the lists cannot hold.
- The list of tar contains it, and tar reported no error besides entries that changed or vanished.

Elsewhere, and if the clock was set back, there is no base, and the second pass archives everything.
"""

from __future__ import annotations

from daemon.snapshots.archive_scripts import PRELUDE

_INSPECTION = r"""
# Each entry adds headers to its content, and the three archives of a volume are padded to 64 KB. Sparse files count
# with the blocks they use. The bot keeps running, so files vanish while `du` reads them: it then reports an error but
# prints the sum of all others. It prints no sum when the folder it is in vanishes, and is then repeated.
used_bytes() {
  used= attempt=1
  while [ -z "$used" ]; do
    [ "$attempt" -le 20 ] || refuse "the volumes change too fast to be measured"
    used=$(du --summarize --block-size=1 "$@" /volumes) || true
    attempt=$((attempt + 1))
  done
  echo "${used%%[!0-9]*}"
}
# Prints the attributes and the path of each regular file and folder; those of names with newlines one at a time.
list_attributes() {
  find /volumes -mindepth 1 \( -type f -o -type d \) \
    \( -path "*$newline*" -exec sh -c 'lsattr -d "$1" | head -n 1' sh {} \; -o -exec lsattr -d {} + \) 2> /dev/null
}
find_protected_entry() {
  list_attributes | while IFS= read -r line; do
    case "${line%% *}" in
      *a*) echo "append-only (chattr +a), so a rollback could not restore it: ${line#* }" ;;
      *i*) echo "immutable (chattr +i), so a rollback could not restore it: ${line#* }" ;;
      *) continue ;;
    esac
    break
  done
}
# tar loses these links, and no helper can replace entries that are immutable or append-only.
refuse_unrestorable_entries() {
  linked=$(find /volumes -mindepth 1 \( -type p -o -type b -o -type c \) -links +1 -print -quit 2> /dev/null) || true
  [ -z "$linked" ] || refuse "this pipe or device has several hard links, which no archive keeps: $linked"
  protected=$(find_protected_entry)
  [ -z "$protected" ] || refuse "this entry is $protected"
}
inspect_volumes() {
  require_lsattr
  refuse_unrestorable_entries
  used=$(used_bytes)
  apparent=$(used_bytes --apparent-size)
  entries=$({ find /volumes -printf x || true; } 2> /dev/null | wc -c)
  size=$((used + entries * 2048 + $(echo "$numbers" | wc -l) * 3 * 65536))
  printf '{"size": %s, "apparent_size": %s, "free": %s}\n' "$size" "$apparent" "$(free_on /archives)"
}
"""

_SHARED = r"""
margin=5
newline='
'
separator=$(printf '\001')
# A signal ends `wait` early, with a status above 128. So does a child that was killed, but only once.
wait_for() {
  while true; do
    if wait "$1"; then return 0; else status=$?; fi
    [ "$status" -gt 128 ] || return "$status"
  done
}
# Other file systems may be mounted inside of a volume.
devices() { cut -z -d ' ' -f 1 "$1" | sort -zu | tr -cd '\0' | wc -c; }
# Setting the clock changes this number by more than rounding does, which is 1. Both clocks are read within the same
# second, because on a busy node `date` can take seconds.
clock_offset() {
  begun= ended=-
  until [ "${begun%%.*}" = "${ended%%.*}" ]; do
    read -r begun _ < /proc/uptime
    now=$(date +%s)
    read -r ended _ < /proc/uptime
  done
  echo $((now - ${begun%%.*}))
}
# Writes the entries that "$1" lists to the archive "$2" and computes its checksum from the same bytes. The names that
# were written go to "$2.names" in the quoting style "$3". Sets tar_status and written_sum.
write_archive() {
  set -- "$@" $({
    { pack "$1" --verbose --index-file="$2.names" --quoting-style="$3" && echo 0 >&3 || echo $? >&3; } |
    { tee -- "$2" && echo 0 >&3 || echo $? >&3; } | sum; } 3>&1)
  tar_status=$4 written_sum=$6
  [ "$5" = 0 ] || refuse "the archive was not written; free bytes on that disk:" $(free_on /archives)
}
"""

_BASE = r"""
# Without the paths that the lists below cannot hold.
list_old_entries() {
  find . \( -path "*$newline*" -o -path "*$separator*" \) -o -type d -fprintf "$work/folders.$1" "$folder_record" \
    -o ! -type s -links 1 ! -newerct "@$oldest_change" -fprintf "$work/files.$1" "$record" 2> /dev/null || true
  for list in folders files; do sort -z -o "$work/$list.$1" "$work/$list.$1"; done
}
# Other errors than those of entries that change or vanish make the base unusable.
refuse_other_errors() {
  while IFS= read -r line; do
    case "$line" in
      *": No such file or directory" | *": Not a directory" | *": File removed before we read it" | \
        *": file changed as we read it" | *"; padding with zeros" | *"due to previous errors") ;;
      *) refuse "$line" ;;
    esac
  done < "$1"
}
# Folders whose entries may have been read from another place, because they may have been moved and moved back.
list_moved_folders() {
  { comm -z -23 folders.before folders.after; comm -z -13 folders.before folders.after; } > folders.changed
  paths folders.changed > changed
  sort -zu -o changed changed
  if [ "$file_system" = xfs ]; then tr '\0' '\n' < changed; return; fi
  xargs -0 -r dirname -z -- < changed > parents
  paste -z -d "$separator" parents changed > pairs
  sort -z -t "$separator" -k 1,1 -o pairs pairs
  join -z -t "$separator" -o 1.2 pairs changed > moved.paths
  tr '\0' '\n' < moved.paths
}
remove_entries_of_moved_folders() {
  list_moved_folders > moved
  [ "$(wc -l < moved)" -le 20 ] || refuse "too many folders were moved while the base was written"
  while IFS= read -r folder; do
    [ "$folder" != . ] || [ "$file_system" = xfs ] || continue  # the root cannot be moved
    tr '\0' '\n' < unchanged | while IFS= read -r line; do
      case "${line#* * * * * * * * * }" in "$folder"/*) ;; *) printf '%s\0' "$line" ;; esac
    done > remaining
    mv -f remaining unchanged
  done < moved
}
refuse_missing_entries() {
  paths unchanged > expected
  sort -z -o expected expected
  tr '\n' '\0' < base.tar.names | sort -z | comm -z -23 expected - > missing
  [ ! -s missing ] || refuse "tar did not read all entries"
}
# Leaves the list `unchanged`: the records of the entries that the base has exactly as they are.
take_base() {
  cd "/volumes/$1"
  work="/archives/$2-$1" priority="$idle_disk nice -n 19"
  rm -rf -- "$work"
  mkdir "$work"
  file_system=$(df --output=fstype . | tail -n 1)
  case "$file_system" in ext4 | xfs | btrfs) ;; *) return ;; esac
  clock_offset > "$work/clock"
  oldest_change=$(($(date +%s) - margin))
  sync --file-system .
  list_old_entries before
  paths "$work/files.before" > "$work/names"
  [ -s "$work/names" ] || return 0
  [ "$(devices "$work/folders.before")" = 1 ] && [ "$(devices "$work/files.before")" = 1 ] || return 0
  write_archive "$work/names" "$work/base.tar" literal 2> "$work/errors"
  list_old_entries after
  cd "$work"
  refuse_other_errors errors
  comm -z -12 files.before files.after > unchanged
  remove_entries_of_moved_folders
  refuse_missing_entries
  sync base.tar
  printf '%s' "$written_sum" > base.sum
}
# Bases of one disk are written one at a time, but none waits so long that its worker gives up. An image may lack
# `ionice` and `flock`, which belong to util-linux.
take_bases() {
  idle_disk=
  if ionice -c 3 true 2> /dev/null; then idle_disk='ionice -c 3'; fi
  exec 9< /archives
  flock --timeout 60 9 2> /dev/null || true
  for number in $numbers; do
    (take_base "$number" "$prefix") &
    wait_for $! || discard_base "$number"
  done
  exec 9<&-
}
discard_base() { rm -rf -- "/archives/$prefix-$1"; mkdir "/archives/$prefix-$1"; }
"""

_DELTA = r"""
list_entries() {
  date +%s > "$work/moment"
  : > "$work/settled"
  find . \( -type p -o -type b -o -type c \) -links +1 -fprintf "$work/linked" '%p\n' \
    , -type d -fprintf "$work/folders" "$folder_record" -o ! -type s -fprintf "$work/files" "$record" \
    , ! -type d ! -type s ! -newerct "@$(($(date +%s) - margin))" -fprintf "$work/settled" "$record"
  [ ! -s "$work/linked" ] ||
    refuse "this pipe or device has several hard links, which no archive keeps: $(head -n 1 "$work/linked")"
  case "$(df --output=fstype .)" in *ext4 | *xfs | *btrfs) ;; *) : > "$work/settled" ;; esac
  [ "$(devices "$work/folders")" = 1 ] || : > "$work/settled"
  for list in folders files settled; do sort -z -o "$work/$list" "$work/$list"; done
}
# An archive is complete when tar succeeded and wrote as many entries as the list has.
write_complete_archive() {
  write_archive "$1" "$2" escape
  [ "$tar_status" = 0 ] || refuse "the archive was not written; free bytes on that disk:" $(free_on /archives)
  entries=$(wc -l < "$2.names") expected=$(count "$1")
  [ "$entries" -eq "$expected" ] || refuse "the archive has $entries entries, the volume $expected"
  printf '%s  %s\n' "$written_sum" "${2##*/}" >> "$work/sums"
}
use_base() {
  : > base
  if [ -s unchanged ] && [ $(($(clock_offset) + 1)) -ge "$(cat clock)" ]; then
    comm -z -12 files unchanged > base
  fi
  if [ -s base ]; then
    printf '%s  base.tar\n' "$(cat base.sum)" >> sums
  else
    rm -f base.tar
  fi
  comm -z -23 files base > delta
}
take_delta() {
  work="/archives/$2-$1"
  rm -f -- "$work/sums" "$work/linked"
  cd "/volumes/$1"
  list_entries
  cd "$work"
  use_base
  paths delta > delta.paths
  folder_paths folders > folders.paths
  cd "/volumes/$1"
  write_complete_archive "$work/delta.paths" "$work/delta.tar"
  write_complete_archive "$work/folders.paths" "$work/folders.tar"
  cd "$work"
  for part in moment folders files settled base; do printf '%s  %s\n' "$(sum < $part)" $part >> sums; done
  find . -mindepth 1 ! -name sums ! -name moment ! -name folders ! -name files ! -name settled ! -name base \
    ! -name '*.tar' -delete
  sync * . ..
  size=0
  for part in *.tar; do size=$((size + $(wc -c < "$part"))); done
  printf '{"size": %s, "entries": %s, "sum": "%s"}\n' $size $(($(count folders) + $(count files))) \
    "$(sum < sums)" > result
}
# A pass that fails is repeated without the base.
take_snapshots() {
  started=
  for number in $numbers; do (take_delta "$number" "$prefix") & started="$started $!"; done
  for number in $numbers; do
    pid=${started# } pid=${pid%% *} started=${started#* $pid}
    if wait_for "$pid"; then continue; fi
    discard_base "$number"
    (take_delta "$number" "$prefix") &
    wait_for $!
  done
  comma='['
  for number in $numbers; do
    printf '%s%s' "$comma" "$(cat "/archives/$prefix-$number/result")"
    comma=', '
  done
  echo ']'
}
"""

_MAIN = r"""
# The arguments: whether to take two passes or one; the common beginning of the names of the snapshots; the highest
# number of a volume. The volumes are mounted at /volumes/1, /volumes/2 …
passes=$1 prefix=$2 numbers=$(seq "$3")
finished=
remove_unfinished() {
  [ -z "$finished" ] || return 0
  for number in $numbers; do rm -rf -- "/archives/$prefix-$number"; done
}
trap remove_unfinished EXIT
received=
trap 'received="$received base"' USR1
trap 'received="$received snapshots"' USR2
await_signal() {
  waited=0
  until case "$received" in *$1*) ;; *) false ;; esac do
    # Short, because a signal right before the `wait` does not end it.
    sleep 1 & wait $! || true
    waited=$((waited + 1))
    [ "$waited" -le "$2" ] || refuse "no worker continued the snapshot"
  done
}
require_programs
[ -n "$(ls -A /archives)" ] || chmod 0700 /archives
if [ "$passes" = two ]; then
  inspect_volumes
  await_signal base 7200
  take_bases
  echo '{}'
  await_signal snapshots 3600
else
  for number in $numbers; do discard_base "$number"; done
fi
take_snapshots
finished=yes
"""

SNAPSHOT = PRELUDE + _INSPECTION + _SHARED + _BASE + _DELTA + _MAIN
