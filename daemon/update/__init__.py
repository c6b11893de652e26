"""The update of one bot. Used by the job `update_bot`.

- `sequence`: the order of the steps, and what happens when a phase fails. Start reading here.
- `preflight`, `steps`: what each step does.
- `rollback`: how a failed update is undone. `cleanup`: what every finished update removes.
- `recovery`: how an update is resumed after its worker died. `manual_recovery`: instructions for an operator.
- `update_context`: what all of them share: rows, engine, names, fenced transactions.
"""
