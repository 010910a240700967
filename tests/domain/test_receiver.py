"""The configuration of nginx in the guide, which receives the reports of hosts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ipsecd_domain.errors import NotFetched
from ipsecd_domain.fetcher.reports import send_report
from ipsecd_domain.fetcher.settings import Domain, Settings
from ipsecd_domain.fetcher.web import post
from ipsecd_domain.reports import MAX_REPORT_BYTES, read_reports
from ipsecd_domain.tls import TlsFiles
from tests.domain.certificates import Authority
from tests.domain.servers import guided_nginx
from tests.netns.site import PATIENCE

pytestmark = [pytest.mark.netns, pytest.mark.timeout(int(120 * PATIENCE))]

GUIDE = Path(__file__).parents[2] / "docs/domain.md"
PORT = 8443
URL = f"https://127.0.0.1:{PORT}/reports"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def reports(tmp_path: Path, authority: Authority) -> Iterator[Path]:
    """A directory that nginx receives reports in, as the guide has it but for its paths."""
    files, directory = authority.certify("policy"), tmp_path / "srv-reports"
    directory.mkdir()
    places = {
        "/etc/ssl/policy.example.net.pem": files.certificate,
        "/etc/ssl/policy.example.net.key": files.key,
        "/etc/ssl/fleet-ca.pem": files.ca,
        "unix:/run/reports/put": f"unix:{tmp_path}/put",
        "/srv/reports": str(directory),
    }
    server = guided_nginx(GUIDE, "map ", tmp_path, PORT, places)

    try:
        server.start()
        yield directory
    finally:
        server.kill()


def of(host: str, tls: TlsFiles) -> Domain:
    return Domain(Settings(host=host, tls=tls, reports=URL), policy="P", digest="0" * 64, version=3)


def test_a_report_is_received(reports: Path, authority: Authority) -> None:
    """Under the name in the certificate; the next one replaces it."""
    domain = of("web1", authority.certify("web1"))
    send_report(domain, "first", 60.0)
    send_report(replace(domain, version=4), "", 60.0)
    [report] = read_reports(reports).usable
    assert (report.host.name, report.version, report.problem) == ("web1", 4, "")
    assert [path.name for path in reports.iterdir()] == ["web1.json"]


def test_nobody_reports_for_another(reports: Path, authority: Authority) -> None:
    """What a host says of another lies under its own name, and is not used."""
    send_report(of("web1", authority.certify("web1")), "", 60.0)
    send_report(of("web1", authority.certify("web2")), "I am web1", 60.0)
    seen = read_reports(reports)
    assert [(report.host.name, report.problem) for report in seen.usable] == [("web1", "")]
    assert [bad.file for bad in seen.unusable] == ["web2.json"]


@pytest.mark.parametrize("name", ["../web1", "WEB1", "web1,CN=web2", "a b", ".web1", "web1/x"])
def test_a_certificate_of_another_form_reports_nothing(
    reports: Path, authority: Authority, name: str
) -> None:
    """Nor does it lead out of the directory."""
    files = authority.certify(name, "client")
    with pytest.raises(NotFetched, match="403"):
        post(URL, b"{}", files, "")
    assert list(reports.iterdir()) == []


def test_what_is_too_long_is_refused(reports: Path, authority: Authority) -> None:
    """Before it is stored; nor can anybody without a certificate store anything."""
    with pytest.raises(NotFetched):
        post(URL, b"x" * (MAX_REPORT_BYTES + 1), authority.certify("web1"), "")
    with pytest.raises(NotFetched):
        post(URL, b"{}", TlsFiles(ca=str(authority.directory / "ca.pem")), "")
    assert list(reports.iterdir()) == []
