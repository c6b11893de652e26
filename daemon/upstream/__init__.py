"""Keep a fork of the bot in step with its upstream: sync, scan, changelogs, pull request.

Used by `flotilla upstream` and by the nightly job. Only the module `nightly` uses the database; all others work on a
git checkout.

- `nightly`: the job: claim, sync, record
- `sync`: the whole run, in order
- `git`, `lock`, `journal`, `working_tree`: one repository, changed by one process, recovered after a crash
- `history`, `rebase`: which commits are ours, and how they move onto upstream
- `hosted_mode`: the words and folders of `hosted-mode.toml`, used by scan and changelogs
- `scanner`, `source`, `usage`, `findings`: user interface code that hosted mode must hide
- `commits`, `changes`, `exclusions`, `wording`, `phrasing`, `vocabulary`, `release_notes`, `internal_changelog`,
  `rewriter`, `changelog_files`: from commits to changelogs
- `forges`, `pull_request`: GitHub, GitLab, Gitea and Forgejo
"""
