"""The operators' overview, releases and fleet."""

import pytest
from flask import Flask

from portal.database import Database
from portal.models import Bot, BotState, PolledImage, Release, UpdateState, utcnow
from portal.queue import open_queue
from tests.support.cast import SignedIn
from tests.support.scene import IMAGE, REPOSITORY, Scene, digest, rollout


def test_the_overview_says_what_needs_a_person(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    assert "Nothing: no rollout waits" in root.get("/admin/").text
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK])
        session.get_one(Bot, scene.bots[1]).needs_attention = "The old container does not start"
        session.get_one(Bot, scene.bots[2]).state = BotState.UNHEALTHY
        image = session.query(PolledImage).one()
        image.errors, image.last_error, image.last_error_at = 2, "credentials refused", utcnow()
    page = root.get("/admin/").text
    for text in ("The old container does not start", "unhealthy", "credentials refused", "1 rolled back"):
        assert text in page


def test_check_now_asks_a_worker_after_the_commit(
    app: Flask, signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    answer = signed_in("root").post("/admin/releases/check", data={"image": IMAGE})
    assert answer.status_code == 303
    (job,) = open_queue(app.extensions["redis"]).jobs
    assert (job.func_name, list(job.args)) == ("daemon.jobs.poll_image", [IMAGE])
    with database.reading() as session:
        assert session.query(PolledImage).one().next_poll_at is not None


def test_a_pasted_digest_is_looked_up(app: Flask, signed_in: SignedIn, scene: Scene) -> None:
    root = signed_in("root")
    pasted = f"{REPOSITORY}@{digest('d')}"
    assert root.post("/admin/releases/paste", data={"reference": f" {pasted} "}).status_code == 303
    assert [job.args for job in open_queue(app.extensions["redis"]).jobs] == [[pasted]]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("", "Paste registry/repository@sha256"),
        (IMAGE, "Paste a reference with a digest"),
        ("registry.example/acme/paperclip@sha256:short", "sha256"),
        (f"evil.example/acme/paperclip@sha256:{'d' * 64}", "FLEET_IMAGE_ALLOWLIST"),
    ],
)
def test_what_is_no_digest_is_refused(
    app: Flask, signed_in: SignedIn, scene: Scene, reference: str, said: str
) -> None:
    answer = signed_in("root").post("/admin/releases/paste", data={"reference": reference})
    assert answer.status_code == 422
    assert said in answer.text
    assert open_queue(app.extensions["redis"]).jobs == []


def test_quarantine_and_lift_need_a_reason(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root, here = signed_in("root"), f"/admin/releases/{scene.new}"
    blank = root.post(f"{here}/quarantine", data={"reason": " "})
    assert blank.status_code == 422
    assert 'aria-invalid="true"' in blank.text
    root.post(f"{here}/quarantine", data={"reason": "eats <data>"})
    assert "eats &lt;data&gt;" in root.get(here).text
    root.post(f"{here}/lift", data={"reason": "was the network"})
    with database.reading() as session:
        assert session.get_one(Release, scene.new).quarantined_at is None


def test_rolling_back_needs_the_version_typed(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root, here = signed_in("root"), f"/admin/releases/{scene.old}"
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
    assert "1 newer release will be quarantined: 1.5.0" in root.get(here).text
    assert root.post(f"{here}/roll-back", data={"why": "slow", "typed": "1.5.0"}).status_code == 422
    answer = root.post(f"{here}/roll-back", data={"why": "slow", "typed": "1.4.0"})
    assert answer.location.startswith("/admin/rollouts/")
    with database.reading() as session:
        assert session.get_one(Release, scene.new).quarantine_reason == "slow"


def test_the_fleet_is_searched_and_narrowed(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
    assert "3 bots" in root.get("/admin/fleet").text
    assert "1 bot<" in root.get("/admin/fleet?q=paperclip+2").text
    assert "2 bots" in root.get("/admin/fleet?show=behind").text
    assert "No bot fits" in root.get("/admin/fleet?q=%25").text
    assert "3 bots" in root.get("/admin/fleet?show=nonsense&page=-4").text
    # Beyond what a database can count to.
    assert "Paperclip 2" in root.get(f"/admin/fleet?page={'9' * 20}").text
    fragment = root.get("/admin/fleet?part=bots&q=acme", headers={"HX-Request": "true"}).text
    assert fragment.lstrip().startswith('<div id="bots"')
