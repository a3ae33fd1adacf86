"""Every snippet of every page runs, in order, in a folder such as its reader has."""

from __future__ import annotations

import pytest

from . import shell
from .pages import PAGES, ROOT, blocks, is_shell

# languages of blocks that are shown and not run
SHOWN = {"text", "yaml", "json", "toctree", "diff", "toml", "eval-rst", "make"}
WITH_CODE = [page for page in PAGES if any(b.language not in SHOWN for b in blocks(page))]
# blocks that cannot run here, each with its reason in the page's source
NOT_RUN = {"docs/howto/processes.md": 2, "docs/howto/sampling.md": 1}


def _id(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_CODE, ids=_id)
def test_page_runs(page, here):
    names: dict = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language in SHOWN or block.file or block.mark("not run") is not None:
            continue
        if is_shell(block):
            for command in block.commands:
                _shell(block, command)
        else:
            assert block.language == "python", f"{block.where}: what is {block.language!r}?"
            _python(block, names)


def _python(block, names):
    code = "\n" * block.line + shell.small(block.text)
    try:
        exec(compile(code, str(block.page), "exec"), names)
    except Exception as error:
        raise AssertionError(f"{block.where}: {type(error).__name__}: {error}") from error


def _shell(block, command):
    answer = shell.run(command.line)
    if answer is None:
        return
    code, said = answer
    verb = command.line.split()[1] if " " in command.line else ""
    wanted = (int(block.mark("exit")),) if block.mark("exit") else shell.ENDS.get(verb, (0,))
    assert code in wanted, f"{block.where}: {command.line}\nexit code {code}\n{said}"
    if block.mark("shown exactly") is not None and command.said is not None:
        assert shell.fits(command.said, said), f"{block.where}: {command.line}\nsays now:\n{said}"


def test_what_is_not_run_says_why():
    found = {}
    for page in PAGES:
        for block in blocks(page):
            reason = block.mark("not run")
            if reason is not None:
                assert len(reason) > 10, f"{block.where}: not run, without a reason"
                found[_id(page)] = found.get(_id(page), 0) + 1
    assert found == NOT_RUN, "a block became one that is not run (or runs now): change the count"


def test_an_unknown_command_is_no_silent_pass():
    with pytest.raises(AssertionError, match="cannot run it"):
        shell.run("rm -r runs")
    with pytest.raises(AssertionError, match="no target"):
        shell.run("make tea")
    assert shell.in_process(["sample", "nowhere"])[0] == 2


def test_shown_answers_are_compared():
    assert shell.fits(["a … c", "…", "z"], "a b c\nd\ne\nz\n")
    assert shell.fits(["a … c", "…", "z"], "a b c\nz\n")
    assert not shell.fits(["a … c", "z"], "a b c\nd\nz\n")
    assert not shell.fits(["a"], "b\n")
