"""The muse command. It imports nothing heavy before it knows what is wanted."""

from __future__ import annotations

import atexit
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import wraps
from typing import Any

import click

from muse_studio.errors import Followed, Terminated, UserError
from muse_studio.runtime import launch

OK, OURS, THEIRS = 0, 1, 2
"""Exit codes: done; our or a plugin's fault; the user's mistake."""
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143
"""128 and the signal's number, SIGINT's, SIGPIPE's and SIGTERM's, as shells have it."""

TRACEBACK = "MUSE_TRACEBACK"
"""The environment variable that has errors of ours shown in full, where it is 1."""

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, colour, erase, or turn the order of what is read; not the ends of lines and tabs."""

OVERRIDE = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*=")
"""How an argument among prompts begins that is an override."""


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print what the command has to say. A stranger's file may have named anything in it: no terminal obeys that.

    Where stderr can't be written there is nobody to tell, and the exit code alone says it.
    """
    with suppress(OSError) if err else nullcontext():
        click.echo(visible(str(text)), err=err, nl=nl)


def visible(text: str) -> str:
    """A text with its control characters, and those that turn its direction, as YAML writes them in double quotes."""
    return _UNSEEN.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command on these arguments (those of the process by default), and return its exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _warn(warnings.showwarning)
        if sys.stdout is None:  # its descriptor would be the next file's
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            say("warning: stdout is closed, so nothing is printed; send it to /dev/null if that is meant", err=True)
        if arguments is not None:
            return _invoke(list(arguments))
        try:
            return _invoke(sys.argv[1:])
        finally:
            # All is done by then, and libraries tidy up for a while: a Ctrl-C would print a traceback of theirs. Exit
            # functions run in the reverse of their order, this one before those of all that was imported.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _invoke(arguments: list[str]) -> int:
    try:
        with muse.make_context("muse", arguments) as context:
            muse.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue(), err=True, nl=False)
        return THEIRS
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        _tell("interrupted")
        return INTERRUPTED
    except Exception as error:
        return _fail(error)
    return OK


def _fail(error: Exception) -> int:
    """Tell what went wrong, and give the exit code."""
    from muse_studio.errors import PluginError, RecipeError, error_message  # here: what goes well needs none of it

    cause = error.__cause__ if isinstance(error, PluginError) else error  # a plugin may be the one who prints
    # An error of writing names no file, others do.
    if isinstance(cause, OSError) and cause.filename is None and (reason := _lost_stdout()) is not None:
        if isinstance(reason, BrokenPipeError):
            return PIPE_CLOSED
        _tell(f"error: stdout can't be written ({reason.strerror}); make room, or send it to another place")
        return THEIRS
    if isinstance(error, UserError):
        if not isinstance(error, Followed):
            _tell(str(error) if isinstance(error, RecipeError) else f"error: {error}")
        return THEIRS
    if isinstance(error, PluginError):
        return _confess(error, f"error in a plugin: {error}")
    return _confess(error, f"error that is not yours: {error_message(error)}")


def _tell(message: str) -> None:
    """An error's message, once for all processes of a team."""
    if launch.first_to_report(message):
        say(message, err=True)


def _confess(error: Exception, message: str) -> int:
    if not launch.first_to_report(message):
        return OURS
    if os.environ.get(TRACEBACK) == "1":
        import traceback

        say("".join(traceback.format_exception(error)), err=True, nl=False)
    say(message, err=True)
    if os.environ.get(TRACEBACK) != "1":
        say(f"{TRACEBACK}=1 shows the whole traceback", err=True)
    return OURS


def _warn(usual: Callable[..., None]) -> Callable[..., None]:
    """Warnings for users are told in one line; those for programmers as ever."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, UserWarning):
            say(f"warning: {' '.join(str(message).split())}", err=True)
        else:
            usual(message, category, *where)

    return show


def _summed_up(summary: Callable[[], str], plugins: Sequence[str]) -> str:
    """What a result's own method says; PluginError where a plugin wrote one that fails."""
    try:
        return summary()
    except Exception as error:
        from muse_studio.registry.faults import fault_of
        from muse_studio.registry.plugins import Registry

        if (fault := fault_of(error, Registry(plugins))) is not None:
            raise fault from error
        raise


def _lost_stdout() -> OSError | None:
    """Why our output can't be written, None where it can; what is left goes nowhere, or Python would complain of it."""
    try:
        click.echo()  # a flush alone would not do where output is not buffered
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


class Prompts(click.Command):
    """A command whose arguments are prompts and overrides; behind `--` all are prompts."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what stands behind `--` apart, which click would mix with the rest."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[__name__] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


def _plugins(command: Callable[..., None]) -> Callable[..., None]:
    message = "Load a plugin from a Python file; may be repeated."
    return click.option("--plugin", "plugins", multiple=True, metavar="FILE", help=message)(command)


def _trust(command: Callable[..., None]) -> Callable[..., None]:
    @wraps(command)
    def trusting(*arguments: Any, trust: bool, **settings: Any) -> None:
        with launch.trusting(trust):
            command(*arguments, **settings)

    message = "Obey a picture's recipe in all that it wants, and open addresses of any protocol."
    return click.option("--trust", is_flag=True, help=message)(trusting)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="muse-studio", prog_name="muse")
def muse() -> None:
    """Masked generative image models: pictures from sentences, by parts that recipes put together."""


@muse.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY.PATH=VALUE]...")
@_trust
@_plugins
def run(recipe: str, overrides: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Run RECIPE: a shipped one by name, a YAML file, or a picture that muse made.

    Of a picture, values are taken: prompt, seed, parts and their settings, over a model known here. What it wants
    beyond that is told and refused, unless --trust is given.
    """
    from muse_studio.recipe import running

    _show(running.run(recipe, overrides, plugins), plugins)


@muse.command(cls=Prompts)
@click.argument("arguments", nargs=-1, metavar="PROMPT... [KEY=VALUE]...")
@_trust
@_plugins
@click.pass_context
def generate(context: click.Context, arguments: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Draw a picture of each PROMPT.

    KEY=VALUE changes the recipe `generate`: count=4, seed=7, negative=blurry, out=FOLDER. Behind `--`, all are prompts.
    """
    from muse_studio.recipe import running

    overrides = [each for each in arguments if OVERRIDE.match(each)]
    prompts = [each for each in arguments if not OVERRIDE.match(each)] + context.meta[__name__]
    named = [each for each in overrides if each.startswith("prompt=")]
    if not prompts and not named:
        raise click.UsageError('Say what to draw, as in: muse generate "a red apple"', context)
    if prompts and named:
        raise click.UsageError(f"{prompts[0]!r} is a prompt, and so is {named[-1]!r}; leave one of them out", context)
    _show(running.run("generate", [*([{"prompt": prompts}] if prompts else []), *overrides], plugins), plugins)


@muse.command()
@click.argument("arguments", nargs=-1, metavar="[RECIPE] [KEY.PATH=VALUE]...")
@_trust
@_plugins
@click.pass_context
def studio(context: click.Context, arguments: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Open a page to draw on, with the model of RECIPE, the embedded one by default, until Ctrl-C.

    KEY=VALUE changes the recipe `studio`: port=7861, open=false, host=0.0.0.0 token=auto, out=FOLDER.
    """
    from muse_studio.recipe import running, serving

    overrides = [each for each in arguments if OVERRIDE.match(each)]
    named = [each for each in arguments if not OVERRIDE.match(each)]
    if len(named) > 1:
        raise click.UsageError(f"{named[0]!r} and {named[1]!r} are two recipes; a page has one model", context)
    page = serving.page_of(named[0]) if named else serving.PAGE
    say("loading the model; the address of its page follows", err=True)
    _show(running.run(page, overrides, plugins), plugins)


@muse.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY.PATH=VALUE]...")
@_trust
@_plugins
def check(recipe: str, overrides: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Tell every problem of RECIPE at once, and run nothing; where it has none, what it would write, read and fetch.

    Nothing is fetched for it, unless --trust is given; what hangs on a file that is not here yet is not checked then.
    """
    from muse_studio.errors import RecipeError
    from muse_studio.recipe import running

    if problems := running.check(recipe, overrides, plugins):
        raise RecipeError(problems)
    say("\n".join([f"{recipe}: no problem found", *map(str, running.reaches(recipe, overrides, plugins))]))


@muse.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY.PATH=VALUE]...")
@_trust
@_plugins
def show(recipe: str, overrides: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Print RECIPE with its parents and overrides merged in, ready to save as your own.

    A picture's is printed with all that it wants; what it extends beyond shipped recipes is read with --trust alone.
    """
    from muse_studio.recipe import merging as recipes
    from muse_studio.registry.plugins import Registry

    if plugins:
        Registry(plugins)  # merging needs none of it, but a broken file is told here as elsewhere
    say(recipes.to_yaml(recipes.load(recipe, recipes.overrides(overrides), obey=False)), nl=False)


@muse.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--verbose", "-v", is_flag=True, help="Also list the plugins, and what loading each cost.")
@_plugins
def parts(kind: str | None, name: str | None, verbose: bool, plugins: tuple[str, ...]) -> None:
    """List the parts there are: all, of one KIND, or what the one called NAME is and takes."""
    from muse_studio.cli.listing import describe, table
    from muse_studio.registry.plugins import Registry

    registry = Registry(plugins)
    say(table(registry, kind, verbose) if kind is None or name is None else describe(registry.find(kind, name)))


@muse.command()
@click.argument("name")
@click.option("--kind", required=True, help="What it is: sampler, tokenizer, ... (muse parts lists them).")
@click.option("--out", metavar="FOLDER", help="Where to write it; ./NAME by default.")
def new(name: str, kind: str, out: str | None) -> None:
    """Write a small package with a working part, its tests and a recipe, to be made into your own."""
    from muse_studio.cli import scaffold

    for path in scaffold.new(name, kind, out):
        say(path)
    folder = out or name
    say(f"\nnext:\n  cd {folder}\n  pip install -e '.[test]'\n  pytest\n  muse run recipe.yaml")


def _show(result: Any, plugins: Sequence[str]) -> None:
    """What a task's result says of itself, in one process of a team."""
    if not launch.is_main():
        return
    if callable(summary := getattr(result, "summary", None)):
        say(_summed_up(summary, plugins))
    elif isinstance(result, dict):
        say(repr(result))
