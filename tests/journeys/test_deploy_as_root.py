"""The installer as root: what is done in the door's folder is done as the door's user, and a failed upgrade goes back.

Each test runs it as it ships, in its own places, on a machine of the test's own: a mount namespace in which /etc, /opt,
/run, /srv, /usr/local and /var are folders of the test where something is written to. What stands for systemd in some
of them starts a unit's command as the unit's user with the unit's credential, without the unit's limits.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edge_oneshot.data import glyphs
from edge_oneshot_device.installation.installation_report import Installation
from tests import ROOT

PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
USER = "edge-oneshot"
PAGE = ROOT / "docs" / "guides" / "deploy.md"
PLACES = ("etc", "opt", "run", "srv", "usr/local/bin", "usr/local/sbin", "usr/local/share", "var/backups", "var/lib")
MOUNT = f'for one in {" ".join(PLACES)}; do mount --bind "$root/$one" "/$one" || exit 99; done'
ENTER = ("unshare", "--mount", "sh", "-c", f'root=$1; shift; {MOUNT}; exec "$@"', "sh")
LATER = "0123456789ab"
COMPLETIONS = (
    "/usr/local/share/bash-completion/completions/edge-oneshot-device",
    "/usr/local/share/zsh/site-functions/_edge-oneshot-device",
)
SYSTEMCTL = r"""#!/bin/sh
echo "$*" >>/run/systemctl.log
case $1 in start | restart) ;; *) exit 0 ;; esac
for folder in /etc /run; do
    if [ -e "$folder/systemd/system/$2" ]; then unit=$folder/systemd/system/$2; fi
done
say() { sed -n "s/^$1=//p" "$unit"; }
user=$(say User)
start=$(say ExecStart)
case $2 in *-door.service) # it is ready where what it needs is there
    start=$(echo "$start" | sed 's/ run --config \(.*\) --json/ doctor --config \1/') ;;
esac
install -d -o "$user" -m 0700 /run/credentials
install -o "$user" -m 0400 "$(say LoadCredential | cut -d: -f2)" /run/credentials/edge-oneshot.key
set -- setpriv --reuid "$user" --regid "$user" --init-groups $start
exec env -i CREDENTIALS_DIRECTORY=/run/credentials "$@"
"""


class Machine:
    """A machine of a test's own; whoever is asked runs on it as root."""

    def __init__(self, root):
        self.root = root

    def try_to(self, *words, **how):
        """Run a command, however it ends."""
        command = [*map(str, (*ENTER, self.root, *words))]
        return subprocess.run(command, capture_output=True, text=True, check=False, **how)

    def run(self, *words, code=0, **how):
        """What a command says that ends so: on stdout, or on stderr where it fails."""
        done = self.try_to(*words, **how)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stderr if code else done.stdout

    def install(self, unpacked, *words, code=0, **how):
        """The last line that the installer says."""
        return self.run(unpacked / "install.sh", *words, code=code, **how).splitlines()[-1]

    def door(self, *words, code=0, **how):
        """The command, as an administrator has it."""
        return self.run("edge-oneshot-device", *words, code=code, **how)

    def as_user(self, script, code=0):
        """As the door's user, or whoever became it."""
        words = ("env", "-i", "setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "sh", "-c")
        return self.run(*words, f"PATH=/usr/local/bin:/usr/bin:/bin; {script}", code=code)

    def expect_fit(self, release):
        """The door works, with this program."""
        assert (self.root / "opt/edge-oneshot/current").readlink().name == release
        assert json.loads(self.door("doctor", "--json"))["exit_code"] == 0

    def path(self, path):
        return self.root / path.removeprefix("/")

    def put_program(self, name, text):
        """Comes before the machine's own."""
        program = self.root / "usr/local/bin" / name
        program.write_text(text)
        program.chmod(0o755)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A machine on which nothing was installed."""
    if os.geteuid() != 0:
        pytest.skip("a service and another user take root")
    if any(shutil.which(program) is None for program in ("unshare", "setpriv", "useradd")):
        pytest.skip("unshare, setpriv and useradd are needed: apt-get install util-linux passwd")
    if not Path(PYTHON).exists():
        pytest.skip(f"there is no {PYTHON}, a Python that every user may run: apt-get install python3-venv")
    root = tmp_path_factory.mktemp("pristine")
    for place in PLACES:
        (root / place).mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "/etc/.", root / "etc"], check=True)
    machine = Machine(root)
    try:
        machine.run("true")
    except AssertionError as error:
        pytest.skip(f"this machine gives nobody mounts of their own: {error}")
    return machine


@pytest.fixture(scope="module")
def archives(archive, unpack, alter, tmp_path_factory):
    """The archive, and one of a later release, unpacked where nobody but root may look."""
    first = unpack(archive, tmp_path_factory.mktemp("first"))
    later = unpack(archive, tmp_path_factory.mktemp("later"))
    alter(later, "release.env", archive.release, LATER)
    alter(later, "release.env", "INIT_OPTIONS=", "INIT_OPTIONS=--variant float32 ")
    return first, later


@pytest.fixture(scope="module")
def made(pristine, archives, tmp_path_factory):
    """A machine on which the first release is in use, and the later one was."""
    machine = copy(pristine, tmp_path_factory.mktemp("made"))
    first, later = archives
    for unpacked in (first, later, first):
        machine.install(unpacked)
    return machine


def copy(machine, root):
    subprocess.run(["cp", "-a", "--reflink=auto", f"{machine.root}/.", root], check=True)
    return Machine(root)


@pytest.fixture
def fresh(pristine, tmp_path):
    return copy(pristine, tmp_path)


@pytest.fixture
def machine(made, tmp_path):
    return copy(made, tmp_path)


@pytest.fixture
def later(archives, tmp_path):
    """The later release, to be altered."""
    return Path(shutil.copytree(archives[1], tmp_path / "altered", symlinks=True))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "ada.png"
    Image.fromarray(glyphs.draw_alphabet(0, 0)[0, 0]).save(path)
    return path


def seen(folder):
    """Everything about what is in a folder."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[path.name] = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, content)
    return found


def test_a_door_is_installed_and_its_command_needs_no_state_and_no_key(machine, archive, image):
    machine.expect_fit(archive.release)
    state, key = machine.path("/var/lib/edge-oneshot"), machine.path("/etc/edge-oneshot.key")
    uid = int(machine.run("id", "-u", USER))
    assert {path.lstat().st_uid for path in [state, *state.rglob("*")]} == {uid}
    assert oct(state.stat().st_mode)[-4:] == "0700"
    assert (oct(key.stat().st_mode)[-4:], key.stat().st_uid) == ("0600", 0)
    program = machine.path("/opt/edge-oneshot")
    assert {path.lstat().st_uid for path in [program, *program.rglob("*")]} == {0}
    assert not [path for path in program.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    with image.open("rb") as file:  # which that user could not find
        machine.door("enrol", "ada", "/dev/stdin", stdin=file)
    with image.open("rb") as file:
        assert json.loads(machine.door("identify", "/dev/stdin", "--json", stdin=file))["person"] == "ada"
    assert not [*machine.path("/run").glob("edge-oneshot.*")]  # the key that was handed over is gone


def test_the_command_says_what_to_do_to_whoever_is_not_root(machine):
    told = machine.run("setpriv", "--reuid", "65534", "--clear-groups", "edge-oneshot-device", "people", code=2)
    assert told.startswith(f"edge-oneshot-device: the door belongs to the user {USER}: run sudo edge-oneshot-device")
    # the door's user has the state, and the key where a service hands it over
    assert "there is no key" in machine.as_user("edge-oneshot-device people", code=3)
    machine.path("/etc/edge-oneshot.key").chmod(0o644)
    assert "can be read by other users" in machine.door("people", code=3)
    machine.path("/etc/edge-oneshot.key").unlink()
    assert "there is no key at /etc/edge-oneshot.key" in machine.door("people", code=3)


def test_the_command_gives_up_roots_rights_and_environment(machine):
    script = "env; umask; grep -E '^(NoNewPrivs|CapEff|CapInh|Uid):' /proc/self/status; ls -ln $CREDENTIALS_DIRECTORY"
    words = ("sh", "/opt/edge-oneshot/current/as-door.sh", "--program", "/bin/sh", "-c", script)
    told = machine.run(
        "env", "EDGE_ONESHOT_STATE=/etc", "PYTHONPATH=/nowhere", "SECRET=1", *words, umask=0
    ).splitlines()
    names = {line.partition("=")[0] for line in told if "=" in line}
    assert names - {"PWD"} == {"PATH", "LANG", "HOME", "EDGE_ONESHOT_STATE", "CREDENTIALS_DIRECTORY"}
    assert "EDGE_ONESHOT_STATE=/var/lib/edge-oneshot" in told
    uid = machine.run("id", "-u", USER).strip()
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in told
    assert {"0077", "NoNewPrivs:\t1", f"CapEff:\t{0:016x}", f"CapInh:\t{0:016x}"} < {*told}
    assert any(line.startswith(f"-r-------- 1 {uid} ") and line.endswith("edge-oneshot.key") for line in told)


def test_a_command_that_is_stopped_leaves_no_key_behind(machine):
    script = 'echo "$CREDENTIALS_DIRECTORY"; exec sleep 600'
    words = [*ENTER, machine.root, "sh", "/opt/edge-oneshot/current/as-door.sh", "--program", "/bin/sh", "-c", script]
    with subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, text=True) as process:
        handed = machine.path(process.stdout.readline().strip())
        assert (handed / "edge-oneshot.key").exists()
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert not handed.exists()


def test_runuser_stands_in_for_setpriv(machine):
    hide = "mount --bind /dev/null /usr/bin/setpriv && exec edge-oneshot-device doctor --json"
    assert json.loads(machine.run("sh", "-c", hide))["exit_code"] == 0


@pytest.mark.parametrize("name", ["bundles", "reserve", "gallery.db", "gallery.db-journal", "settings.json"])
@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
def test_a_link_that_the_doors_user_left_leads_root_nowhere(machine, later, image, name, target):
    victim = machine.path("/etc/victim")
    victim.mkdir(mode=0o755)
    (victim / "theirs.oneshot").write_text("root's")
    (victim / "file").write_bytes(b"root's, 10")
    before = seen(victim)
    link = {"folder": "/etc/victim", "file": "/etc/victim/file", "nothing": "/etc/victim/new"}[target]
    machine.as_user(f"cd /var/lib/edge-oneshot && rm -rf {name} && ln -s {link} {name}")
    done = machine.try_to(later / "install.sh")
    assert done.returncode == 0 or done.stderr.splitlines()[-1].startswith("install.sh: ")
    assert seen(victim) == before
    for words in (["doctor"], ["enrol", "ada", "/dev/stdin"], ["rollback"], ["people"]):
        with image.open("rb") as file:
            machine.try_to("edge-oneshot-device", *words, stdin=file)
    assert seen(victim) == before


def test_a_state_folder_that_is_a_link_or_somebody_elses_is_refused(machine, archives):
    state, victim = machine.path("/var/lib/edge-oneshot"), machine.path("/etc/victim")
    victim.mkdir(mode=0o755)
    (victim / "bundles").mkdir()
    (victim / "bundles" / "theirs.oneshot").write_text("root's")
    before = seen(victim)
    state.rename(state.with_name("former"))
    state.symlink_to("/etc/victim")
    assert "is a link" in machine.install(archives[1], code=4)
    state.unlink()
    victim.rename(state)
    assert f"does not belong to {USER}" in machine.install(archives[1], code=4)
    state.rename(victim)
    assert seen(victim) == before


def test_a_gallery_without_its_key_gets_no_other_one(machine, archives):
    key = machine.path("/etc/edge-oneshot.key")
    key.rename(key.with_name("elsewhere"))
    assert "the key /etc/edge-oneshot.key of the gallery is gone" in machine.install(archives[1], code=3)
    assert not key.exists()


def test_places_of_ones_own_are_not_for_a_service_nor_the_services_for_root(fresh, archives):
    assert "go with --no-service" in fresh.install(archives[0], "--state", "/srv/door", code=2)
    assert "needs --prefix" in fresh.install(archives[0], "--no-service", code=2)
    theirs = fresh.path("/var/lib/theirs")
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    places = ("--prefix", "/opt/x", "--state", "/var/lib/theirs", "--key", "/etc/x.key")
    assert "belongs to another user" in fresh.install(archives[0], "--no-service", *places, code=2)
    assert not [*theirs.iterdir()]
    assert not [*fresh.path("/opt").iterdir()]


def test_whatever_the_callers_umask_the_service_can_start(fresh, archives, archive):
    fresh.install(archives[0], umask=0o077)
    fresh.expect_fit(archive.release)
    unit = fresh.path("/etc/systemd/system/edge-oneshot.service")
    assert oct(unit.stat().st_mode)[-3:] == "644"
    assert json.loads(fresh.door("doctor", "--json", umask=0))["exit_code"] == 0


def test_a_python_that_the_doors_user_cannot_run_is_refused_before_anything_is_installed(fresh, archives):
    closed = fresh.path("/opt/closed")
    closed.mkdir(mode=0o700)
    (closed / "python").symlink_to(PYTHON)
    told = fresh.install(archives[0], "--python", "/opt/closed/python", code=2)
    assert told.startswith(f"install.sh: {USER} cannot run /opt/closed/python")
    assert [path.name for path in fresh.path("/opt").iterdir()] == ["closed"]
    for left in ("/var/lib/edge-oneshot", "/etc/edge-oneshot.key", "/usr/local/bin/edge-oneshot-device"):
        assert not fresh.path(left).exists()


def test_shells_complete_the_command(machine, archives):
    for installed, shell in zip(COMPLETIONS, ("bash", "zsh"), strict=True):
        assert machine.path(installed).read_bytes() == (archives[0] / f"completion.{shell}").read_bytes()


def test_a_door_that_is_not_fit_goes_back_to_the_program_the_bundle_and_the_service_of_before(
    machine, archive, later, alter
):
    alter(later, "edge-oneshot.service", "doctor --state", "doctor --stat")
    unit = machine.path("/etc/systemd/system/edge-oneshot.service")
    before = unit.read_bytes()
    assert machine.install(later, code=4) == (
        "install.sh: the door does not work: what was in use before is in use again"
    )
    machine.expect_fit(archive.release)
    assert unit.read_bytes() == before
    assert "int8 on" in machine.door("doctor")


@pytest.mark.skipif("replaced" not in Installation.__struct_fields__, reason="init does not say yet what it replaced")
def test_going_back_goes_back_no_bundle_too_far(machine, archive, unpack, alter, tmp_path):
    again = unpack(archive, tmp_path / "again")  # the bundle in use, once more
    alter(again, "edge-oneshot.service", "doctor --state", "doctor --stat")
    machine.install(again, code=4)
    machine.expect_fit(archive.release)
    assert "int8 on" in machine.door("doctor")


def test_a_bundle_that_is_not_taken_leaves_the_door_as_it_was(machine, archive, later, alter):
    alter(later, "release.env", "--variant float32", "--variant float5")
    told = machine.install(later, code=3)
    assert told.startswith("install.sh: init refused the bundle (")
    assert "no variant 'float5'" in told
    assert told.endswith(": what was in use before is in use again")
    machine.expect_fit(archive.release)


def test_a_first_installation_that_fails_leaves_no_service(fresh, archives, alter, tmp_path):
    unpacked = Path(shutil.copytree(archives[0], tmp_path / "altered", symlinks=True))
    alter(unpacked, "edge-oneshot.service", "doctor --state", "doctor --stat")
    assert fresh.install(unpacked, code=4) == "install.sh: the door does not work: nothing was in use before"
    for left in ("/opt/edge-oneshot/current", "/etc/systemd/system/edge-oneshot.service",
                 "/usr/local/bin/edge-oneshot-device", *COMPLETIONS):  # fmt: skip
        assert not os.path.lexists(fresh.path(left))


@pytest.mark.parametrize(
    ("program", "when"),
    [("install", "bundle.oneshot"), ("grep", "replaced"), ("ln", "current.new"), ("mv", "/current.new"),
     ("install", "edge-oneshot.service"), ("mv", "edge-oneshot.service.new"), ("mv", "99-edge"),
     ("mv", "bin/edge-oneshot-device.new"), ("rm", "trusted.pub")],
)  # fmt: skip
def test_an_upgrade_that_is_killed_leaves_a_door_that_works(machine, archives, program, when):
    real = shutil.which(program, path="/usr/bin:/bin")
    machine.put_program(program, f'#!/bin/sh\ncase "$*" in *{when}*) kill -9 $PPID; exit ;; esac\nexec {real} "$@"\n')
    machine.run(archives[1] / "install.sh", code=-9)
    (machine.root / "usr/local/bin" / program).unlink()
    assert json.loads(machine.door("doctor", "--json"))["exit_code"] == 0
    machine.install(archives[1])
    machine.expect_fit(LATER)
    assert "float32 on" in machine.door("doctor")


@pytest.mark.parametrize("when", ["edge-oneshot.service", "99-edge"])
def test_a_file_of_which_no_copy_can_be_kept_stays(machine, archive, archives, when):
    real = shutil.which("cp", path="/usr/bin:/bin")
    machine.put_program("cp", f'#!/bin/sh\ncase "$*" in -pP*{when}*) exit 1 ;; esac\nexec {real} "$@"\n')
    unit, rules = (machine.path(f"/etc/{name}") for name in ("systemd/system/edge-oneshot.service",
                                                             "udev/rules.d/99-edge-oneshot-coral.rules"))  # fmt: skip
    before = unit.read_bytes(), rules.read_bytes()
    machine.install(archives[1], code=1)
    assert (unit.read_bytes(), rules.read_bytes()) == before
    machine.expect_fit(archive.release)


def test_a_release_is_removed_and_nothing_else(machine, archive, archives):
    victim, releases = machine.path("/etc/victim"), machine.path("/opt/edge-oneshot/releases")
    victim.mkdir()
    (victim / "file").write_text("root's")
    (releases / "aaaaaaaaaaaa").symlink_to("/etc/victim")
    (releases / "notes").mkdir()
    (releases / "bbbbbbbbbbbb").mkdir()
    machine.install(archives[1])
    kept = {path.name for path in releases.iterdir()}
    assert kept == {archive.release, LATER, "aaaaaaaaaaaa", "notes"}
    assert (victim / "file").read_text() == "root's"


def test_under_systemd_a_copy_of_the_unit_is_tried_before_anything_is_switched(machine, archive, later, alter):
    machine.path("/run/systemd/system").mkdir(parents=True)
    machine.put_program("systemctl", SYSTEMCTL)
    machine.put_program("udevadm", "#!/bin/sh\n")
    alter(later, "edge-oneshot.service", "doctor --state", "doctor --stat")
    assert machine.install(later, code=4).endswith("what was in use before is in use again")
    calls = machine.path("/run/systemctl.log").read_text().splitlines()
    assert "start edge-oneshot-check.service" in calls
    assert "restart edge-oneshot.service" in calls  # what was in use before
    assert not any(call.startswith("enable") for call in calls)
    assert not [*machine.path("/run/systemd/system").iterdir()]
    machine.expect_fit(archive.release)


def test_under_systemd_a_service_that_does_not_start_goes_back(machine, archive, archives):
    machine.path("/run/systemd/system").mkdir(parents=True)
    # as if the unit's limits kept the program from starting, with the new release alone
    broken = f'[ "$1" = restart ] && readlink /opt/edge-oneshot/current | grep -q {LATER} && exit 1'
    machine.put_program("systemctl", SYSTEMCTL.replace("case", f"{broken}\ncase", 1))
    machine.put_program("udevadm", "#!/bin/sh\n")
    assert machine.install(archives[1], code=4) == (
        "install.sh: the service does not start: what was in use before is in use again"
    )
    machine.expect_fit(archive.release)
    assert "int8 on" in machine.door("doctor")
    machine.put_program("systemctl", SYSTEMCTL)
    machine.install(archives[1])
    machine.expect_fit(LATER)
    assert "enable --quiet edge-oneshot.service" in machine.path("/run/systemctl.log").read_text()


def test_the_commands_of_the_page_work_as_written(machine, tmp_path):
    machine.put_program("sudo", '#!/bin/sh\nexec "$@"\n')
    home, photos = tmp_path / "home", machine.path("/srv/photos")
    home.mkdir(mode=0o700)
    photos.mkdir(mode=0o755)
    for folder, name, row in ((home, "ada", 0), (photos, "bob-1", 1), (photos, "bob-2", 1)):
        Image.fromarray(glyphs.draw_alphabet(0, 0)[row, 0]).save(folder / f"{name}.jpg", "JPEG", quality=95)
    key = machine.path("/etc/edge-oneshot.key").read_text()
    section = PAGE.read_text().partition("## Using the door")[2].partition("\n## ")[0]
    for block in re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        machine.run("sh", "-e", "-c", block, cwd=home)
    assert [one["person"] for one in json.loads(machine.door("people", "--json"))] == ["ada", "bob"]
    assert machine.path("/etc/edge-oneshot.key").read_text() != key
    assert machine.path("/etc/edge-oneshot.key.former").read_text() == key
    assert machine.path("/var/backups/edge-oneshot/gallery.db").is_file()


def test_unit_installer_and_command_name_the_same_places(archives):
    unit, script = ((archives[0] / name).read_text() for name in ("edge-oneshot.service", "as-door.sh"))
    assert f"User={USER}\nGroup={USER}\n" in unit
    assert f"user={USER}\n" in script
    for place in ("/var/lib/edge-oneshot", "/etc/edge-oneshot.key"):
        assert place in unit
        assert f"={place}\n" in script
