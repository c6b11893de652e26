"""Every mail there is, by the name it is posted under."""

from __future__ import annotations

from daemon.mail import account_letters, fleet_letters, team_letters
from daemon.mail.letter import Composer

COMPOSERS: dict[str, Composer] = {
    **account_letters.COMPOSERS,
    **team_letters.COMPOSERS,
    **fleet_letters.COMPOSERS,
}
