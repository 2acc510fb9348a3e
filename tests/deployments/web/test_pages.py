"""How the page is served: security policy, caching, refused paths, and packaging in the wheel."""

import re
import subprocess
import sys
import zipfile

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from deployments.api.routes import pages
from tests.folders import ROOT

JOB = "/jobs/kk_01M84X262BDGCE56DRC3QTW78B"
ASSETS = sorted(p.relative_to(pages.WEB).as_posix() for p in pages.WEB.rglob("*.*") if p.suffix != ".html")


@pytest.fixture(scope="module")
def client():
    app = FastAPI()
    app.include_router(pages.router)
    return TestClient(app)


@pytest.mark.parametrize("path", ["/", JOB, *(f"/static/{name}" for name in [*ASSETS, pages.STAGES_MODULE])])
def test_every_file_has_a_strict_policy_and_is_revalidated(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        **dict.fromkeys(("script-src", "style-src", "img-src", "media-src", "connect-src", "form-action"), "'self'"),
        **dict.fromkeys(("base-uri", "frame-ancestors"), "'none'"),
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"if-none-match": f'"other", W/{answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_pages_have_no_inline_code_and_load_nothing_external():
    for path in pages.WEB.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "style=" not in text
        assert "<style" not in text
        assert not re.search(r"\son\w+=", text)
        assert text.count("<script") == text.count('<script type="module" src="/static/')
        assert "//" not in text.replace('placeholder="https://"', "")


@pytest.mark.parametrize(
    "name",
    ["index.html", "../pages.py", "..%2Fpages.py", "%2e%2e/pages.py", "app", "app/", "", "/etc/passwd", "app/%00.js"],
)
def test_nothing_else_is_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_an_impossible_job_id_is_a_404_page(client):
    answer = client.get("/jobs/nonsense")
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"]


def test_the_page_ships_in_the_wheel(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"index.html", "job.html", *ASSETS}
    assert {f"deployments/api/web/{name}" for name in wanted} <= names
