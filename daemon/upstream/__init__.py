"""Keep a fork of the bot in step with its upstream: sync, scan, changelogs, pull request.

Used by `flotilla upstream` and by the nightly job. Only the module `nightly` uses the database; all others work on a
git checkout.

- `nightly`: the job: claim, sync, record
- `sync`: the whole run, in order
- `repository`: one repository, recovered after a crash; the fork's own commits and their rebase
- `scan`: user interface code that hosted mode must hide, and the words and folders of `hosted-mode.toml`
- `changelog`: from upstream's commits to the internal and the user-facing changelog
- `publishing`: pull requests at GitHub, GitLab, Gitea and Forgejo
"""
