"""The forms that the checks of the demo submit, as they read them from pages."""

from __future__ import annotations

from demo.checks.form_browser import read_forms

PAGE = """
<input name="outside" value="of any form">
<form action="/search"><input name="q"></form>
<form action="/team/1/role" method="post">
  <input type="hidden" name="version" value="3">
  <select name="role"><option value="admin">Admin</option><option value="member" selected>Member</option></select>
  <select name="node"><option value="first">First</option><option value="second">Second</option></select>
  <input type="checkbox" name="urgent" value="1"><input type="checkbox" name="mail" value="1" checked>
  <button>Save</button>
</form>
"""


def test_fields_have_the_values_that_a_browser_would_send() -> None:
    search, role = read_forms(PAGE)
    assert (search.action, search.fields) == ("/search", {"q": ""})
    assert role.action == "/team/1/role"
    assert role.fields == {"version": "3", "role": "member", "node": "first", "mail": "1"}
