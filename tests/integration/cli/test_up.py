"""headwater up: a whole system of real processes."""

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.cli.conftest import (
    alive,
    ask,
    descendants,
    eventually,
    headwater,
    one_line_error,
    value_of,
)
from tests.postgres_server import execute


def test_a_system_answers_through_its_gateway_and_stops_without_a_trace(make_system, up):
    """After the banner the gateway answers; Ctrl-C ends every process, with exit code 0."""
    running = up(make_system("command = 1, query = 2"))
    status = running.wait_ready()
    code, answer, headers = ask(f"{status['gateway']}/counters/a", body={"by": 2})
    assert (code, answer["id"], answer["version"]) == (200, "a", 1)
    assert headers
    found = eventually("the view is there", lambda: value_of(f"{status['gateway']}/counters/a"))
    assert found == 2
    names = [process["name"] for process in status["processes"]]
    assert names[:3] == ["discovery", "config", "gateway"]
    assert names[3:] == ["counting-command-1", "counting-query-1", "counting-query-2"]
    assert f"gateway        {status['gateway']}" in running.log
    assert "sample is up: 6 processes" in running.log
    below = descendants(running.process.pid)
    assert {process["pid"] for process in status["processes"]} < below
    assert running.stop(signal.SIGINT) == 0
    assert not any(map(alive, below))
    assert not running.ready_file.exists()
    assert "killed" not in running.log


def test_the_gateway_stops_before_the_services_and_these_before_the_platform(make_system, up):
    """A stop goes from the outside to the inside, so that nothing is refused that was accepted."""
    running = up(make_system())
    running.wait_ready()
    assert running.stop(signal.SIGTERM) == 0
    log = running.log
    order = ["gateway has stopped", "stopping service=counting", "discovery has stopped"]
    places = [log.index(words) for words in [*order, "sample has stopped"]]
    assert places == sorted(places)


def test_a_killed_instance_comes_back(make_system, up):
    """A crashed instance is reported, started again and takes traffic; the ready file follows."""
    running = up(make_system())
    status = running.wait_ready()
    pid = running.processes()["counting-1"]["pid"]
    assert ask(f"{status['gateway']}/counters/a", body={"by": 1})[0] == 200
    os.kill(pid, signal.SIGKILL)

    def back():
        found = running.processes()["counting-1"]
        return found["pid"] not in {None, pid} and found["state"] == "ready"

    eventually("the instance is back", back)
    assert "counting-1 was killed by SIGKILL: starting it again" in running.log
    assert running.processes()["counting-1"]["restarts"] == 1
    eventually(
        "it takes traffic",
        lambda: ask(f"{status['gateway']}/counters/a", body={"by": 1})[0] == 200,
    )
    assert "counting-1 is back" in running.log


@pytest.mark.parametrize("shuffle", [3, 8])
def test_no_order_of_starting_matters(make_system, up, shuffle):
    """Whoever comes first, the system comes up and works, and it stops while it is starting."""
    running = up(make_system("command = 1, query = 1"), "--shuffle", str(shuffle))
    status = running.wait_ready()
    assert ask(f"{status['gateway']}/counters/a", body={"by": 1})[0] == 200
    assert running.stop(signal.SIGTERM) == 0
    again = up(make_system(), "--shuffle", str(shuffle))
    eventually("it is under way", lambda: list(again.folder.rglob("up.json")))
    assert again.stop(signal.SIGTERM) == 0


def test_a_killed_gateway_and_discovery_come_back(make_system, up):
    """The platform's own services are kept running, too."""
    running = up(make_system())
    status = running.wait_ready()
    for name in ("discovery", "gateway"):
        os.kill(running.processes()[name]["pid"], signal.SIGKILL)
    eventually(
        "both were started again",
        lambda: all(running.processes()[n]["restarts"] == 1 for n in ("discovery", "gateway")),
    )

    def answers():
        try:
            return ask(f"{status['gateway']}/counters/b", body={"by": 1})[0] == 200
        except OSError:
            return False

    eventually("the gateway answers", answers)


def test_an_instance_that_does_not_stop_is_killed(make_system, up):
    """The stop is bounded: an instance that stands still is killed after its drain time."""
    file = make_system()
    with file.open("a", encoding="utf-8") as more:
        more.write("drain_s = 0.1\n[services.counting.environment]\nSAMPLE = '1'\n")
    running = up(file)
    running.wait_ready()
    below = descendants(running.process.pid)
    url = running.processes()["counting-1"]["url"]
    with contextlib.suppress(OSError):
        ask(f"{url}/counters/a", body={"by": 99}, timeout_s=0.3)
    assert running.stop(signal.SIGTERM) == 0
    assert "counting-1 did not stop within 5.1 s: killed" in running.log
    assert not any(map(alive, below))


def test_a_second_interrupt_kills_everything_at_once(make_system, up):
    """Who does not want to wait for the drain presses Ctrl-C again."""
    file = make_system()
    with file.open("a", encoding="utf-8") as more:
        more.write("drain_s = 60\n")
    running = up(file)
    running.wait_ready()
    below = descendants(running.process.pid)
    url = running.processes()["counting-1"]["url"]
    with contextlib.suppress(OSError):
        ask(f"{url}/counters/a", body={"by": 99}, timeout_s=0.3)
    running.process.send_signal(signal.SIGINT)
    eventually("it is stopping", lambda: "stopping (once more" in running.log)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(30) == 0
    assert not any(map(alive, below))


def test_no_process_outlives_its_supervisor(make_system, up):
    """When the supervisor is killed, everything below it ends by itself."""
    running = up(make_system())
    running.wait_ready()
    below = descendants(running.process.pid)
    assert len(below) >= 5
    running.process.kill()
    running.process.wait()
    eventually("all are gone", lambda: not any(map(alive, below)))


def test_the_system_comes_back_when_the_fork_server_dies(make_system, up):
    """When the process that all others are forked from dies, everything is started again."""
    running = up(make_system())
    status = running.wait_ready()
    before = {process["pid"] for process in status["processes"]}
    parent = Path(f"/proc/{running.processes()['counting-1']['pid']}/status")
    line = next(x for x in parent.read_text().splitlines() if x.startswith("PPid:"))
    os.kill(int(line.split()[1]), signal.SIGKILL)

    def back():
        found = running.status()
        return found["ready"] and not before & {p["pid"] for p in found["processes"]}

    eventually("everything is back", back)
    eventually("the old ones are gone", lambda: not any(map(alive, before)))


def system_of(make_system, source, instances="all = 2") -> Path:
    """Return the file of a system whose service is in a module of this source."""
    file = make_system(instances)
    (file.parent / "mine.py").write_text(source, encoding="utf-8")
    text = file.read_text(encoding="utf-8")
    text = text.replace('python_path = ["', 'python_path = [".", "')
    file.write_text(text.replace("counting:service", "mine:service"), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("source", "setting", "words"),
    [
        ("import counting\nservice = counting.servise\n", "", "mine.py:2: AttributeError"),
        ("import nothing_here\n", "", "No module named 'nothing_here'"),
        ("from counting import service\n", 'host = "203.0.113.1"', "cannot listen"),
        ("from counting import service\n", 'bus = "pulsar:x"', "no engine for this scheme"),
        (
            "from counting import service\nimport headwater.service.surroundings as r\n"  # noqa: ISC004
            "async def no_driver(_): import no_such_driver\nr.open_stream_store = no_driver\n",
            "",
            "pip install what has 'no_such_driver'",
        ),
    ],
    ids=["attribute", "module", "address", "engine", "extra"],
)
def test_an_error_that_cannot_go_away_ends_it(make_system, up, source, setting, words):
    """What cannot start as it is ends the system at once, with its error once and an exit code."""
    file = system_of(make_system, source)
    with file.open("a", encoding="utf-8") as more:
        more.write(f"{setting}\n")
    running = up(file)
    assert running.process.wait(60) == 2
    errors = [line for line in running.log.splitlines() if "error: " in line]
    assert len(errors) == 1, running.log
    assert words in errors[0]
    assert "Traceback" not in running.log
    assert "cannot start as it is" in running.log
    assert "starting it again" not in running.log
    assert not descendants(running.process.pid)


def test_an_instance_that_can_start_no_more_is_given_up(make_system, up):
    """In a system that works, an instance that cannot start again is left out, and that is said."""
    file = system_of(make_system, "from counting import service\n")
    running = up(file)
    status = running.wait_ready()
    (file.parent / "mine.py").write_text("import nothing_here\n", encoding="utf-8")
    os.kill(running.processes()["counting-1"]["pid"], signal.SIGKILL)
    eventually("it is said", lambda: "the others go on without counting-1" in running.log)
    eventually("it is shown", lambda: running.processes()["counting-1"]["state"] == "failed")
    assert ask(f"{status['gateway']}/counters/a", body={"by": 2})[0] == 200
    assert running.stop(signal.SIGTERM) == 2


def test_what_is_not_there_yet_is_waited_for(make_system, up):
    """A port that is taken is said, and tried again until it is free."""
    file = system_of(
        make_system,
        "import pathlib\n"
        "from headwater.errors import AddressInUse\n"
        "from counting import service\n"
        "if pathlib.Path('taken').exists():\n"
        "    raise AddressInUse(host='127.0.0.1', port=8080)\n",
        "all = 1",
    )
    (file.parent / "taken").touch()
    running = up(file)
    again = "counting-1 ended with exit code 75: starting it again in"
    eventually("it was tried twice", lambda: running.log.count(again) > 1)
    assert running.log.count("is in use by another process") == 1
    (file.parent / "taken").unlink()
    running.wait_ready()


def test_a_clock_that_is_set_back_during_the_start(make_system, up):
    """What is ready is not found out by comparing clocks; a wrong one keeps nobody waiting."""
    file = system_of(
        make_system,
        "import time\n"
        "now, now_ns = time.time, time.time_ns\n"
        "time.time = lambda: now() - 3600\n"
        "time.time_ns = lambda: now_ns() - 3600 * 10**9\n"
        "from counting import service\n",
    )
    status = up(file).wait_ready()
    assert ask(f"{status['gateway']}/counters/a", body={"by": 2})[0] == 200


def test_a_port_in_use_ends_it_before_anything_is_started(make_system):
    """A taken port is one error line with exit code 75, and no process was started."""
    file = make_system()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = headwater("up", "--file", file, "--port", str(port))
    assert f"127.0.0.1:{port} is in use by another process" in one_line_error(result, code=75)
    assert result.stdout == ""
    assert not (file.parent / ".headwater").exists()


def test_a_typo_in_the_file_ends_it_before_anything_is_started(make_system):
    """An unknown key is one error line with its line number and the nearest known key."""
    file = make_system()
    text = file.read_text(encoding="utf-8").replace("segments = 2", "segmants = 2")
    file.write_text(text, encoding="utf-8")
    line = 1 + text[: text.index("segmants")].count("\n")
    error = one_line_error(headwater("up", "--file", file), code=2)
    assert f"{file}:{line}: unknown key 'segmants'" in error
    assert "did you mean 'segments'?" in error


def test_services_of_one_schema_end_it_before_anything_is_started(make_system, own_postgres):
    """Two services whose names become one schema are one error line, and nothing was made."""
    file = make_system()
    text = file.read_text(encoding="utf-8")
    own = text[text.index("[services.counting]") :]
    for name in ("order-items", "order_items"):
        text += own.replace("services.counting", f"services.{name}")
    text = text.replace("python_path", f'database = "{own_postgres.url()}"\npython_path', 1)
    file.write_text(text, encoding="utf-8")
    error = one_line_error(headwater("up", "--file", file), code=2)
    assert "services 'order-items' and 'order_items' would keep their data in the same" in error
    assert "schema=order_items: rename one of them" in error
    assert not (file.parent / ".headwater").exists()
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'order_items'"
    assert execute(own_postgres.url(), schemas) == 0


def test_without_a_file_it_says_what_to_do(tmp_path):
    """Outside of a system's folder the error says how to find or make one."""
    error = one_line_error(headwater("up", cwd=tmp_path), code=2)
    assert "headwater.toml: does not exist" in error
    assert "headwater new NAME" in error


def test_two_supervisors_do_not_share_their_data(make_system, up):
    """A second `headwater up` on the same data is refused, and the first goes on."""
    file = make_system()
    running = up(file)
    running.wait_ready()
    error = one_line_error(headwater("up", "--file", file), code=2)
    assert "another `headwater up` uses this data" in error
    assert running.process.poll() is None
