"""The effective configuration from real files."""

from pathlib import Path

import pytest

from headwater.config import StaticConfig
from headwater.config.folder import Folder
from headwater.config.repository import Repository
from headwater.errors import ConfigurationError, InvalidInput


class Files:
    """A directory of settings files, and a clock that settles them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0

    def write(self, name: str, content: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def replace(self, name: str, content: str) -> None:
        """Write a new file and rename it over the old one."""
        temporary = self.directory / f".{name}.new"
        temporary.write_text(content)
        temporary.replace(self.directory / name)

    def repository(self, **environment: str) -> Repository:
        self.folder = Folder(self.directory, clock=lambda: self.now)
        return Repository(self.folder.load(), name=self.folder.name, environment=environment)

    def look(self, repository: Repository, after_s: float = 0.0) -> bool:
        self.now += after_s
        scan = self.folder.scan()
        repository.take(scan.state, repository.parse(scan.state))
        return scan.changed

    def settle(self, repository: Repository) -> bool:
        """Look twice, so that changes are taken over."""
        return self.look(repository) or self.look(repository, 0.2)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_precedence(files: Files) -> None:
    """App and profile beats profile, beats app, beats all; the last profile is the strongest."""
    names = [
        "application.yml",
        "accounts.toml",
        "application-dev.yml",
        "application-eu.yml",
        "accounts-dev.yml",
        "accounts-eu.yaml",
    ]
    for number, name in enumerate(names):
        sign = " =" if name.endswith("toml") else ":"
        keys = range(number, len(names))
        files.write(name, "".join(f"k{key}{sign} '{name}'\n" for key in keys))
    document = files.repository().document("accounts", ("dev", "eu"))
    assert document.config == {f"k{n}": name for n, name in enumerate(names)}
    assert [source.name for source in document.sources] == names[::-1]


def test_origins(files: Files) -> None:
    """Every value names the file and, for YAML, the line that it came from."""
    files.write("application.yml", "pool:\n  size: 1\n  hosts: [a, b]\n")
    files.write("accounts.yml", "\n\npool.size: 2\n")
    files.write("accounts-dev.toml", "[pool]\nhosts = ['c']\n")
    document = files.repository().document("accounts", ("dev",))
    assert document.config == {"pool": {"size": 2, "hosts": ["c"]}}
    assert document.origins == {"pool.size": "accounts.yml:3", "pool.hosts[0]": "accounts-dev.toml"}


def test_label(files: Files) -> None:
    """A label is a directory used instead of the root; an unknown one falls back and says so."""
    files.write("application.yml", "a: root\nb: root\n")
    files.write("release/2/application.yml", "a: label\n")
    repository = files.repository()
    found = repository.document("accounts", (), "release/2")
    assert (found.config, found.label, found.requested_label) == (
        {"a": "label"},
        "release/2",
        "release/2",
    )
    fallen = repository.document("accounts", (), "main")
    assert (fallen.config["a"], fallen.label, fallen.requested_label) == ("root", "", "main")


@pytest.mark.parametrize(
    ("app", "profiles", "label"),
    [
        ("../etc", (), ""),
        ("", (), ""),
        ("a/b", (), ""),
        ("a", ("..",), ""),
        ("a", ("",), ""),
        ("a", (), "../x"),
        ("a", (), "x//y"),
        ("a", (), ".git"),
        ("a\n", (), ""),
    ],
)
def test_names_cannot_leave_the_directory(
    files: Files, app: str, profiles: tuple[str, ...], label: str
) -> None:
    """A name that is none is refused."""
    with pytest.raises(InvalidInput, match="is no name"):
        files.repository().document(app, profiles, label)


def test_placeholders(files: Files) -> None:
    """Placeholders see the whole configuration and the environment."""
    files.write("application.yml", "url: http://${host}:${PORT}/\n")
    files.write("accounts.yml", "host: bank\n")
    document = files.repository(PORT="80").document("accounts")
    assert document.config["url"] == "http://bank:80/"


def test_version_is_that_of_the_content(files: Files) -> None:
    """Equal content has an equal version, any other content another."""
    files.write("application.yml", "a: 1\nb: 2\n")
    first = files.repository().document("x").version
    files.write("application.yml", "b: 2\n\na: 1\n")
    assert files.repository().document("x").version == first
    files.write("application.yml", "b: 2\na: 2\n")
    assert files.repository().document("x").version != first


def test_change_is_taken_when_settled(files: Files) -> None:
    """A file that is still being written is not served, however long that takes."""
    files.write("application.yml", "a: 1\nb: 1\n")
    repository = files.repository()
    path = files.directory / "application.yml"
    path.write_text("a: 2\n")  # half of it
    assert not files.look(repository)
    assert not files.look(repository, 0.09)
    path.write_text("a: 2\nb: 2\n")
    assert not files.look(repository, 0.09)
    assert repository.document("x").config == {"a": 1, "b": 1}
    assert files.look(repository, 0.1)
    assert repository.document("x").config == {"a": 2, "b": 2}
    assert not files.look(repository, 1)


def test_rename_and_removal(files: Files) -> None:
    """A renamed file replaces the old one; a removed one no longer counts."""
    files.write("application.yml", "a: 1\n")
    files.write("x.yml", "b: 1\n")
    repository = files.repository()
    files.replace("application.yml", "a: 2\n")
    assert files.settle(repository)
    assert repository.document("x").config == {"a": 2, "b": 1}
    (files.directory / "x.yml").unlink()
    assert files.settle(repository)
    assert repository.document("x").config == {"a": 2}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("a: [1\nb: 2\n", "application.yml:2: "),
        ("a: 1\na: 2\n", "application.yml:2: key 'a' is given twice"),
        ("- 1\n", "application.yml:1: the top is a list"),
        ("a: ${nobody}\n", "application.yml:1: key 'a': placeholder"),
    ],
)
def test_bad_change_keeps_the_old(files: Files, bad: str, words: str) -> None:
    """A bad new content is refused with its line; the old stays until it is corrected."""
    files.write("application.yml", "a: old\n")
    repository = files.repository()
    before = repository.document("x")
    files.write("application.yml", bad)
    assert files.settle(repository)
    after = repository.document("x")
    assert (after.config, after.version) == (before.config, before.version)
    assert words in after.error
    assert words in next(iter(repository.errors().values()))
    files.write("application.yml", "a: new\n")
    assert files.settle(repository)
    assert (repository.document("x").config, repository.errors()) == ({"a": "new"}, {})


def test_bad_file_at_start(files: Files) -> None:
    """A file that was bad from the beginning hinders only those who use it."""
    files.write("accounts.yml", "a: [\n")
    files.write("other.yml", "a: 1\n")
    repository = files.repository()
    assert repository.document("other").config == {"a": 1}
    with pytest.raises(ConfigurationError, match=r"accounts.yml:2: .*correct the syntax"):
        repository.document("accounts")
    assert list(repository.errors()) == ["accounts.yml"]


def test_two_files_of_one_name(files: Files) -> None:
    """Two files that differ only in their suffix are refused: which one holds is not clear."""
    files.write("application.yml", "a: 1\n")
    files.write("application.toml", "a = 2\n")
    repository = files.repository()
    with pytest.raises(ConfigurationError, match=r"has the same name: keep one of them"):
        repository.document("x")
    assert sorted(repository.errors()) == ["application.toml", "application.yml"]


def test_hidden_and_foreign_files_are_ignored(files: Files) -> None:
    """Only settings files count, and nothing that starts with a dot."""
    files.write(".application.yml", "a: 1\n")
    files.write(".git/application.yml", "a: 1\n")
    files.write("application.yml.swp", "a: [\n")
    files.write("README.md", "a: [\n")
    assert files.repository().files() == []


def test_vanished_directory_keeps_the_old(files: Files) -> None:
    """When the directory itself is away its last content stays, and the error is visible."""
    files.write("application.yml", "a: 1\n")
    repository = files.repository()
    away = files.directory.with_name("away")
    files.directory.rename(away)
    assert files.look(repository)
    assert repository.document("x").config == {"a": 1}
    assert "No such file" in next(iter(repository.errors().values()))
    away.rename(files.directory)
    assert files.look(repository)
    assert repository.errors() == {}


def test_no_directory(tmp_path: Path) -> None:
    """A directory that does not exist is named at once."""
    with pytest.raises(ConfigurationError, match="not a directory: create it or name another"):
        Folder(tmp_path / "nowhere")


def test_static_config_from_a_directory(files: Files) -> None:
    """Without a server the same files give the same configuration."""
    files.write("accounts-dev.yml", "pool.size: ${SIZE:3}\n")
    config = StaticConfig.from_directory(files.directory, "accounts", ("dev",), environment={})
    assert config.bind(int, prefix="pool.size") == 3
