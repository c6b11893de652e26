"""Rows for the benchmarks of the gateway: a bot, and people who are signed in at its host."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from portal.models import Bot, BotState, Membership, MembershipRole, Node, Org, User, utcnow
from portal.services.accounts import sessions
from portal.services.gateway import entering
from portal.tokens import fingerprint, generate_token

SUBDOMAIN = "bench"
SESSION_COOKIE = "flotilla-gateway"
"""Name of the cookie at hosts without TLS."""


@dataclass(frozen=True)
class Visitor:
    """A person who is signed in at the host of a bot.

    Attributes:
        host: the bot's host.
        token: token of the session.
    """

    host: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that this person's browser sends."""
        return {
            "Host": self.host,
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "Accept-Language": "en-US,en;q=0.5",
            "Accept-Encoding": "gzip, deflate",
            "Referer": f"http://{self.host}/",
            "Cookie": f"theme=dark; {SESSION_COOKIE}={self.token}",
            "Sec-Fetch-Dest": "empty",
            "Sec-Fetch-Mode": "cors",
            "Sec-Fetch-Site": "same-origin",
        }


def create_bot(session: Session, address: str) -> Bot:
    """Create a running bot with its organization.

    Args:
        session: a writing transaction.
        address: `host:port` of the bot.
    """
    owner = User(email="owner@bench.example", email_normalized="owner@bench.example", name="Owner")
    node = Node(name="bench", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
    session.add_all([owner, node])
    session.flush()
    org = Org(slug="bench", name="Bench", owner_id=owner.id)
    session.add(org)
    session.flush()
    bot = Bot(
        org_id=org.id,
        node_id=node.id,
        name="Bench",
        subdomain=SUBDOMAIN,
        image="registry.example/acme/bot:stable",
        state=BotState.RUNNING,
        address=address,
    )
    session.add(bot)
    session.flush()
    return bot


def sign_in(session: Session, bot: Bot, domain: str, number: int) -> Visitor:
    """Add a member to the organization of a bot, and sign the member in at the bot's host.

    Args:
        session: a writing transaction.
        bot: the bot.
        domain: domain of the bots.
        number: tells members apart.
    """
    email, now = f"member{number}@bench.example", utcnow()
    user = User(email=email, email_normalized=email, name=f"Member {number}")
    session.add(user)
    session.flush()
    session.add(Membership(org_id=bot.org_id, user_id=user.id, role=MembershipRole.MEMBER))
    portal_session = sessions.start(session, user.id, now=now, user_agent="bench", ip="127.0.0.1")
    state = generate_token()
    ticket = entering.mint_ticket(session, bot.id, fingerprint(portal_session), state, now)
    token = entering.redeem_ticket(session, ticket, bot.subdomain, state, now)
    if token is None:
        raise RuntimeError("the ticket of a member was not accepted")
    return Visitor(f"{bot.subdomain}.{domain}", token)
