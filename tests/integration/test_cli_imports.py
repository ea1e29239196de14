"""How little the command line imports: it starts for every file of a shell's loop."""

import subprocess
import sys


def loaded_by(*arguments: str) -> set[str]:
    """Return the top-level modules that a run of the command line imports."""
    script = (
        "import sys\n"
        "from entrypoints.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return set(result.stdout.rpartition("MODULES ")[2].split())


def test_help_imports_no_command() -> None:
    assert loaded_by("--help").isdisjoint({"httpx", "rich", "litestar", "boto3", "granian", "PIL", "msgspec"})


def test_the_client_side_does_not_carry_the_server() -> None:
    assert loaded_by("upload", "--help").isdisjoint({"litestar", "boto3", "granian", "PIL", "sqlite3", "adapters"})
