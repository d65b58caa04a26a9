"""Two web nodes on one machine, behind nginx and without it: every event on both, once, however a client comes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests

from devstack import programs
from devstack.ports import free_port
from devstack.processes import Process, Program
from devstack.settings import PROJECT_FOLDER
from tests.acceptance.journal import Heard
from tests.acceptance.platform import Person, Platform
from tests.acceptance.sockets import Socket
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

# What surrounds the file that is delivered: nothing outside the folder, and a log that says who was sent where.
SURROUNDINGS = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1000; }}
http {{
    log_format nodes '$cookie_carillon_node $upstream_addr $status $request_uri';
    access_log {folder}/access.log nodes;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {delivered}
    # By turns, as a proxy does that knows nothing of sessions.
    upstream turns {{ {nodes} }}
    server {{
        listen 127.0.0.1:{turns};
        location /socket.io/ {{
            proxy_pass http://turns;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $carillon_connection;
        }}
        # As nginx does it where nobody has set anything: it keeps answers until a buffer is full.
        location / {{ proxy_pass http://turns; }}
    }}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """nginx before two web nodes."""

    url: str
    turns_url: str
    nodes: tuple[str, str]
    access_log: Path

    def node_of(self, cookie: str) -> str:
        """The node to which clients with a cookie come."""
        requests.get(f"{self.url}/api/health/live?{cookie}", cookies=as_client(cookie), timeout=10)

        def logged() -> str | None:
            lines = [line.split() for line in self.access_log.read_text().splitlines()]
            return next((line[1] for line in lines if line[0] == cookie and line[3].endswith(cookie)), None)

        return str(until(logged, f"the request of {cookie} in nginx's log"))

    def of_each_node(self) -> tuple[str, str]:
        """Cookies that lead to one node and to the other."""
        first, *others = [f"client-{number}" for number in range(40)]
        return first, next(each for each in others if self.node_of(each) != self.node_of(first))


def as_client(cookie: str) -> dict[str, str]:
    return {"carillon_node": cookie}


@pytest.fixture(scope="module")
def second_node(platform: Platform) -> Iterator[str]:
    """The address of one more web node."""
    port = free_port()
    node = platform.stack.add(replace(programs.web(port, "web-2"), essential=False))
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(url), lambda: f"the second node; its log ends:\n{node.log_tail()}", 30)
    yield url
    node.stop()


@pytest.fixture(scope="module")
def proxy(platform: Platform, second_node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The sticky proxy as it is delivered, in the foreground."""
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if nginx is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed on this machine")
    folder = tmp_path_factory.mktemp("nginx")
    port, turns = free_port(), free_port()
    nodes = (platform.url, second_node)
    servers = " ".join(f"server {url.removeprefix('http://')};" for url in nodes)
    delivered = (PROJECT_FOLDER / "docker/nginx/carillon.conf").read_text()
    for name, value in {"CARILLON_LISTEN": f"127.0.0.1:{port}", "CARILLON_NODES": servers}.items():
        delivered = delivered.replace("${" + name + "}", value)
    configuration = folder / "nginx.conf"
    configuration.write_text(SURROUNDINGS.format(folder=folder, delivered=delivered, nodes=servers, turns=turns))
    program = Program("nginx", (nginx, "-e", "stderr", "-p", str(folder), "-c", str(configuration)), essential=False)
    process: Process = platform.stack.add(program)
    proxy = Proxy(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{turns}", nodes, folder / "access.log")
    until(lambda: answers(proxy.url), lambda: f"nginx; it says:\n{process.log_tail()}", 20)
    yield proxy
    process.stop()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/health/live", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def numbered(socket: Socket) -> list[Heard]:
    return [each for each in socket.journal.heard if "eventId" in each.data]


def test_polling_works_through_the_proxy_on_both_nodes(platform: Platform, proxy: Proxy) -> None:
    person = platform.newcomer()
    cookies = proxy.of_each_node()
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(person.socket(url=proxy.url, transports=["polling"], cookies=as_client(cookie)))
            for cookie in cookies
        ]
        job_id = person.submit(payload={"steps": 5, "sleepMs": 120})
        for socket in sockets:
            socket.journal.first("notification", job_id)
            socket.journal.until(
                lambda heard: [each for each in heard if each.name == "job:completed"], "the end of the job"
            )
            socket.journal.assert_complete()
            assert [each.data["percentage"] for each in socket.journal.about(job_id, "job:progress")][-1] == 100
        # A client without a cookie is known by its address.
        plain = stack.enter_context(person.socket(url=proxy.url, transports=["polling"]))
        assert plain.call("subscribe:job", job_id)["job"]["status"] == "completed"


def test_a_page_gives_a_browser_its_cookie_once(platform: Platform, proxy: Proxy) -> None:
    with requests.Session() as browser:
        first = browser.get(f"{proxy.url}/api/health/live", timeout=10)
        assert first.headers["Set-Cookie"].startswith("carillon_node=")
        assert "Set-Cookie" not in browser.get(f"{proxy.url}/api/health/live", timeout=10).headers
        handshake = requests.get(f"{proxy.url}/socket.io/?EIO=4&transport=polling", timeout=10)
        assert (handshake.status_code, handshake.headers.get("Set-Cookie")) == (200, None)


def test_a_client_that_begins_by_polling_upgrades_through_the_proxy(platform: Platform, proxy: Proxy) -> None:
    person = platform.newcomer()
    with person.socket(url=proxy.url) as socket:
        until(lambda: socket.transport == "websocket", "the upgrade")
        job_id = person.submit(payload={"steps": 3, "sleepMs": 120})
        socket.journal.first("job:completed", job_id)
        socket.journal.assert_complete()


@pytest.mark.parametrize("set_up", ["as delivered", "by itself"])
def test_streams_are_not_held_back_by_nginx(platform: Platform, proxy: Proxy, set_up: str) -> None:
    person = platform.newcomer()
    url = proxy.url if set_up == "as delivered" else proxy.turns_url
    job_id = person.submit(payload={"steps": 600, "sleepMs": 100})
    with (
        person.stream(url=url) as everything,
        person.stream(f"/api/jobs/{job_id}/stream", url) as stream,
        person.stream("/api/notifications/stream", url) as inbox,
    ):
        assert inbox.journal.first("unread-count")
        assert stream.journal.first("job")["id"] == job_id
        for journal in (everything.journal, stream.journal):
            journal.until(lambda heard: sum(each.name == "job:progress" for each in heard) >= 3, "three steps", 5)
        # A job of a minute: had it been kept until it ended, nothing would have come by now.
        assert person.job(job_id)["status"] == "active"
        person.ask("DELETE", f"/api/jobs/{job_id}", {"reason": "seen enough"})
        assert stream.ended.wait(10)
        everything.journal.first("job:cancelled", job_id)


def test_sockets_without_stickiness_hear_every_event_on_both_nodes(platform: Platform, proxy: Proxy) -> None:
    person = platform.newcomer()
    with ExitStack() as stack:
        sockets = [stack.enter_context(person.socket(url=proxy.turns_url, transports=["websocket"])) for _ in range(4)]
        job_ids = person.submit_many(10, {"steps": 2, "sleepMs": 50})
        for socket in sockets:
            socket.journal.all_completed(job_ids)
        last = person.submit(delay=600)
        for socket in sockets:
            socket.journal.until(lambda heard: [each for each in heard if each.job_id == last][1:], "the last event")
            socket.journal.assert_complete()
        assert all(numbered(socket) == numbered(sockets[0]) for socket in sockets)
    used = {line.split()[1] for line in proxy.access_log.read_text().splitlines() if "transport=websocket" in line}
    assert used == {url.removeprefix("http://") for url in proxy.nodes}, "nginx writes a socket down when it ends"


def test_what_is_read_on_one_node_is_read_on_the_other(platform: Platform, second_node: str) -> None:
    here = platform.newcomer()
    there = Person(second_node, here.id, here.username, here.token)
    with here.socket("/notifications") as phone, there.socket("/notifications") as laptop:
        job_id = here.submit()
        notification = phone.journal.first("notification", job_id)
        laptop.journal.first("notification", job_id)
        there.ask("PATCH", f"/api/notifications/{notification['id']}/read")
        here.ask("PATCH", f"/api/notifications/{notification['id']}/unread")
        there.ask("PATCH", "/api/notifications/read-all")
        here.await_status(job_id, "completed")
        truth = here.get("/api/notifications/unread-count")
        assert truth == there.get("/api/notifications/unread-count")
        for socket in (phone, laptop):
            socket.journal.until(
                lambda heard: any(
                    each.data.get("version") == truth["version"] for each in heard if each.name == "unread-count"
                ),
                f"the count {truth}",
            )
        assert numbered(phone) == numbered(laptop)


def test_a_client_resumes_on_the_other_node(platform: Platform, second_node: str) -> None:
    here = platform.newcomer()
    there = Person(second_node, here.id, here.username, here.token)
    job_id = here.submit(payload={"steps": 20, "sleepMs": 110})
    with there.socket() as present:
        with here.socket() as socket:
            socket.journal.until(lambda heard: sum(each.name == "job:progress" for each in heard) >= 3, "three steps")
        with there.socket(last_event_id=socket.last_event_id) as back:
            for each in (back, present):
                each.journal.first("job:completed", job_id)
            assert back.journal.first("resumed")["recovered"] is True
            joined = numbered(socket) + numbered(back)
            numbers = [each.data["eventId"] for each in joined]
            assert len(numbers) == len(set(numbers))
            progress = [each.data["progress"]["current"] for each in joined if each.name == "job:progress"]
            assert progress == list(range(progress[0], 21))


def test_a_node_that_dies_leaves_its_clients_to_the_other(platform: Platform, proxy: Proxy, second_node: str) -> None:
    person = platform.newcomer()
    node = platform.stack.process("web-2")
    cookie = next(each for each in proxy.of_each_node() if proxy.node_of(each) == second_node.removeprefix("http://"))
    try:
        with person.socket(url=proxy.url, cookies=as_client(cookie)) as socket:
            job_ids = person.submit_many(30, {"steps": 2, "sleepMs": 50})
            socket.journal.first("job:completed", job_ids[0])
            node.kill()
            socket.journal.all_completed(job_ids)
            socket.journal.assert_complete()
            assert socket.journal.first("resumed")["recovered"] is True
    finally:
        node.start()
        until(lambda: answers(second_node), "the second node again", 30)
