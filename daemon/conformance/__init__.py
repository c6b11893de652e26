"""The conformance kit: test an image black-box against `docs/bot-contract.md`. Used by `flotilla conformance`.

A `Trial` runs the checks in `checks/` on bots that a `Lab` starts. `Sandbox` is the lab on a Docker engine.
"""
