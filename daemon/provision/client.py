"""The provision client: one method per call of the provision protocol. Used by the sync of bots and by purges.

`docs/bot-contract.md` describes the protocol for authors of bots.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from daemon.provision import answers
from daemon.provision.failures import BadAnswerError, RefusedError, StaleError
from daemon.provision.transport import MAX_ANSWER_BYTES, MAX_LIST_BYTES, Answer, Request, exchange
from portal.rules.member_drift import ListedMember

CALL_SECONDS = 30.0
"""Time limit of one call."""

_REFUSALS = {
    401: "the bot refused the secret (HTTP 401)",
    404: "the bot does not know the company (HTTP 404)",
    422: "the bot refused the content of the call (HTTP 422)",
}


class ProvisionClient:
    """Calls to one bot.

    Args:
        address: `host:port` of the bot, from its row.
        secrets: the valid secrets, the most likely first. If the bot refuses one, the next is tried.
        seconds: time limit of one exchange.
    """

    def __init__(self, address: str, secrets: Sequence[str], seconds: float = CALL_SECONDS) -> None:
        self._address = address
        self._secrets = list(secrets)
        self._seconds = seconds
        self.accepted_secret: str | None = None
        """The secret that the bot accepted last."""

    def check_health(self) -> bool:
        """Ask whether the bot can be provisioned: it has a secret. This call carries none."""
        answer = self._exchange("GET", "/internal/provision/health", {}, None, MAX_ANSWER_BYTES)
        return answers.read_health(_require_status(answer, 200))

    def provision(self, tenant: Mapping[str, Any]) -> str:
        """Create the company of a tenant, or complete it if it exists. Return the bot's id of the company.

        Args:
            tenant: the body of the call: `tenantId`, `tenantName`, `adminUser` and so on.
        """
        answer = self._call("POST", "/internal/provision", tenant)
        return answers.read_company_id(_require_status(answer, 201, 200))

    def set_budget(self, company_id: str, cents: int, per_agent_cents: int | None) -> None:
        """Set the monthly budget of a company, in cents."""
        body = {"tenantEntityId": company_id, "budgetCents": cents}
        if per_agent_cents is not None:
            body["perAgentCents"] = per_agent_cents
        answer = self._call("PUT", "/internal/provision/budget", body)
        answers.require_values(_require_status(answer, 200), {"tenantEntityId": company_id, "budgetCents": cents})

    def delete_company(self, company_id: str) -> None:
        """Delete a company with its members. A company that the bot does not know is deleted already."""
        answer = self._call("DELETE", "/internal/provision", {"tenantEntityId": company_id})
        if answer.status != 404:
            answers.require_values(_require_status(answer, 200), {"tenantEntityId": company_id})

    def change_member(self, path: str, body: Mapping[str, Any], idempotency_key: str) -> None:
        """Send one change of a member.

        Args:
            path: `/internal/members/add`, `/internal/members/change-role` or `/internal/members/remove`.
            body: the change, with its `version`.
            idempotency_key: the same for every repetition of the change.
        """
        answer = self._call("POST", path, body, {"Idempotency-Key": idempotency_key})
        if answer.status == 409:
            raise StaleError("the bot knows a newer version of this member (HTTP 409)")
        answers.require_values(_require_status(answer, 200), {"ok": True})

    def list_members(self, company_id: str) -> list[ListedMember] | None:
        """List the members of a company. Return None if the bot does not offer the list."""
        path = f"/internal/members?companyId={quote(company_id, safe='')}"
        answer = self._call("GET", path, max_bytes=MAX_LIST_BYTES)
        if answer.status == 404:
            return None
        return answers.read_members(_require_status(answer, 200))

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send a call with each secret in turn until the bot accepts one."""
        content = None if body is None else json.dumps(body).encode()
        for secret in list(self._secrets):
            authorized = {**(headers or {}), "Authorization": f"Bearer {secret}"}
            answer = self._exchange(method, path, authorized, content, max_bytes)
            if answer.status != 401:
                self.accepted_secret = secret
                # The other calls of this client need not try a refused secret again.
                self._secrets.sort(key=lambda known: known != secret)
                return answer
        raise RefusedError(_REFUSALS[401], 401)

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | None, max_bytes: int
    ) -> Answer:
        described = {"Accept": "application/json", **headers}
        if content is not None:
            described["Content-Type"] = "application/json"
        return exchange(self._address, Request(method, path, described, content, max_bytes), self._seconds)


def _require_status(answer: Answer, *expected: int) -> dict[str, Any]:
    """Return the JSON object of a successful answer.

    Raises:
        RefusedError, BadAnswerError: the answer is no success.
    """
    if answer.status in _REFUSALS:
        raise RefusedError(_REFUSALS[answer.status], answer.status)
    if 300 <= answer.status < 400:
        raise BadAnswerError(f"the bot redirects the call (HTTP {answer.status})")
    if answer.status not in expected:
        raise BadAnswerError(f"the bot answered HTTP {answer.status}")
    if not isinstance(answer.content, dict):
        raise BadAnswerError(f"HTTP {answer.status}, but the answer is no JSON object")
    return answer.content
